"""The error raised by merges; every refusal names what it is about."""


class MergeError(ValueError):
    """The adapters cannot be merged as asked; the message begins with the option, field or site it is about."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
