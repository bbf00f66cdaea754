"""Answers read in pieces, as clients join them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headmix_server.text.tools.parts import AnswerReader, Argued, Called, Part, Said, Thought


@dataclass
class Read:
    """What a reader found, joined."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False

    def add(self, parts: Sequence[Part]) -> None:
        """Append parts."""
        for part in parts:
            match part:
                case Said(text):
                    self.content += text
                case Thought(text):
                    self.reasoning += text
                case Called(name):
                    self.calls.append((name, ""))
                case Argued(text):
                    name, before = self.calls[-1]
                    self.calls[-1] = (name, before + text)


def read(reader: AnswerReader, pieces: Sequence[str]) -> Read:
    """Read an answer that arrives in these pieces."""
    found = Read()
    for piece in pieces:
        found.add(reader.push(piece))
    found.add(reader.end())
    found.cut = reader.cut
    return found


def pieces_of(text: str, sizes: Sequence[int]) -> list[str]:
    """Cut a text into pieces of these sizes, the rest at once."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]
