"""What a fuzzing target is."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True)
class Target:
    """`inputs` draws what a stranger might send; `check` sends it and returns how it was answered, in a few words.

    A check raises where a promise is broken. It may be called again and again in one process.
    """

    inputs: SearchStrategy[bytes]
    check: Callable[[bytes], str]


def kind_of(message: str) -> str:
    """Return a refusal's words without the names, numbers and quotations of the one input it speaks of."""
    return " ".join(word for word in message.split() if word.isalpha() and word.isascii())[:60]
