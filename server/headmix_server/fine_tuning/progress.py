"""How far a job's training has come, as its worker records it in the job's row. All of it may be missing."""

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds_left` is the trainer's own estimate, from when it was recorded; `trained_tokens` count every epoch."""

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    trained_tokens: int = 0
    seconds_left: float | None = None
    train_loss: float | None = None
    valid_loss: float | None = None

    def json(self) -> str:
        """Return the text that the job's row keeps."""
        return msgspec.json.encode(self).decode()


_DECODER = msgspec.json.Decoder(Progress)


def read_progress(text: str) -> Progress:
    """Return the progress that a job's row keeps."""
    return _DECODER.decode(text)
