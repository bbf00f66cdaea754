"""The parts of an answer, in the order in which a model writes them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Said(NamedTuple):
    """More of the message's text."""

    text: str


class Thought(NamedTuple):
    """More of the reasoning before it."""

    text: str


class Called(NamedTuple):
    """A call begins."""

    name: str


class Argued(NamedTuple):
    """More of the arguments of the last call."""

    text: str


Part = Said | Thought | Called | Argued


class AnswerReader(Protocol):
    """Separates the parts of one answer. What it returns in all does not depend on how the text is cut."""

    @property
    def cut(self) -> bool:
        """Whether the answer ended within a call that had been reported."""
        ...

    def push(self, text: str) -> Sequence[Part]:
        """Take in more of the answer; return what is certain now."""
        ...

    def end(self) -> Sequence[Part]:
        """Return the rest, at the answer's end."""
        ...


class PartList:
    """Parts as they are found. White space around calls and markers is not text, so it is held until text follows.

    Text behind a call begins a new line.
    """

    def __init__(self, *, trims: bool = False) -> None:
        self._parts: list[Part] = []
        self._space = ""
        self._trims = trims
        self._follows_call = False
        self.num_calls = 0
        self.has_said = False

    def say(self, text: str) -> None:
        """Add text."""
        self._add(Said, text)

    def think(self, text: str) -> None:
        """Add reasoning."""
        self._add(Thought, text)

    def trim(self) -> None:
        """Drop the white space that is held, and what follows."""
        self._space, self._trims = "", True

    def call(self, name: str) -> None:
        """Begin a call."""
        self.num_calls += 1
        self._space, self._follows_call = "", True
        self._parts.append(Called(name))

    def argue(self, text: str) -> None:
        """Add to the call's arguments."""
        if text:
            self._parts.append(Argued(text))

    def take(self) -> list[Part]:
        """Return the parts that were not returned before."""
        parts, self._parts = self._parts, []
        return parts

    def end(self) -> list[Part]:
        """Return the rest: a plain answer keeps its white space."""
        if self._space and not self.num_calls and not self._trims:
            self._parts.append(Said(self._space))
        return self.take()

    def _add(self, kind: type[Said] | type[Thought], text: str) -> None:
        if self._trims or self._follows_call:
            text = text.lstrip()
        if not text:
            return
        if self._follows_call:
            self._space, self._follows_call = "\n" if self.has_said else "", False
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if shown:
            self._trims = False
            self.has_said = self.has_said or kind is Said
            self._parts.append(kind(shown))
