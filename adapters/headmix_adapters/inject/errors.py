"""The one error of attaching."""


class AttachError(ValueError):
    """The adapter and the model do not fit each other; the message names the part."""
