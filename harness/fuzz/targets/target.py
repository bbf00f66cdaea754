"""What a fuzzing target is."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True)
class Target:
    """`inputs` draws what a client might send; `check` sends it and returns in a few words how it was answered.

    A check raises if a promise is broken. It may be called many times in one process.
    """

    inputs: SearchStrategy[bytes]
    check: Callable[[bytes], str]


def kind_of(message: str) -> str:
    """Return a refusal's message without the names, numbers and quotations specific to its input."""
    return " ".join(word for word in message.split() if word.isalpha() and word.isascii())[:60]
