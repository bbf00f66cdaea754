"""The error raised while attaching."""


class AttachError(ValueError):
    """The adapter and the model do not match; the message names the part."""
