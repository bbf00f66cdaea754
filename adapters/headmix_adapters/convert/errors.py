"""The error raised by conversions; every refusal names what it is about."""

from headmix_adapters.artifact.faults import quoted


class ConvertError(ValueError):
    """The adapter cannot be converted exactly; the message begins with the tensor, field or file it is about."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(f"{quoted(subject)}: {reason}")
