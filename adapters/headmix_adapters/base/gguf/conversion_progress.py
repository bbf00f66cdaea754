"""A conversion's progress, as the converting process writes it and the waiting process reads it.

One line of JSON per step, on standard output. Knows neither GGUF nor processes.
"""

import msgspec

STAGES = (
    ("starting", 0.0),
    ("reading the file", 0.25),
    ("dequantizing the weights", 0.55),
    ("converting the tokenizer", 0.8),
    ("writing the folder", 0.9),
)
"""The stages in order, and the share of the total time that has passed when each begins (measured on SmolLM2-135M)."""


class ConversionProgress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The current stage of the conversion of `file`, and how much of the whole is done, from 0 to 1."""

    file: str
    stage: str
    done: float


_PROGRESS = msgspec.json.Decoder(ConversionProgress)


def progress_of(file: str, stage: str, part: float = 0.0) -> ConversionProgress:
    """Return the progress of a stage of which `part` is done.

    Raises:
        KeyError: there is no such stage.
    """
    starts = dict(STAGES)
    end = min((start for start in starts.values() if start > starts[stage]), default=1.0)
    return ConversionProgress(file, stage, starts[stage] + part * (end - starts[stage]))


def encode_progress(progress: ConversionProgress) -> str:
    """Return the progress as one line."""
    return msgspec.json.encode(progress).decode()


def decode_progress(line: str) -> ConversionProgress | None:
    """Return the progress in a line, or None for any other line: libraries may print to standard output too."""
    try:
        return _PROGRESS.decode(line)
    except msgspec.DecodeError:
        return None
