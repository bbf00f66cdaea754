"""Why the program cannot go on, in words for the person who started it."""


class StartError(Exception):
    """The server cannot start; the message says why and, where it can, what helps."""
