"""The error raised while finding or reading a base."""


class BaseError(Exception):
    """A base cannot be found, fetched, converted or understood; the message says what to do about it."""
