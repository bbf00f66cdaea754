"""What a check of a data file found: its faults, by line, and what it counted."""

from typing import Any

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault: the first line that has it (None: the file has it) and how many lines do."""

    line: int | None
    message: str
    lines: int = 1

    def __str__(self) -> str:
        return f"{'' if self.line is None else f'line {self.line}: '}{self.message}{self.others}"

    @property
    def others(self) -> str:
        """How many other lines have it, to be put after the message."""
        number = self.lines - 1
        return f" (and {number:,} more line{'' if number == 1 else 's'})" if number else ""


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check. The file can be trained on if there is no fault.

    `examples` is the number of texts or answers to learn, `excluded` that of rows with nothing to learn, `tokens` an
    estimate for one epoch, before any is cut at `max_length`. `labels` counts each label's rows. `ignored` counts the
    rows that have a field which is left out as asked. `same_question`: no part of the file can be held out, since all
    rows ask the same; a file to score with is needed. `complete` is False if the check ended before the file.
    """

    rows: int
    examples: int
    excluded: int
    tokens: int
    labels: dict[str, int]
    ignored: dict[str, int]
    same_question: bool
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]
    complete: bool

    @property
    def ok(self) -> bool:
        """Whether the file can be trained on."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the form that JSON has."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


class FaultLog:
    """Collects faults, equal ones of many lines as one; `full` once there are so many different ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, tuple[int | None, int]] = {}

    @property
    def full(self) -> bool:
        """Whether no other fault is taken."""
        return len(self._lines) >= self._most

    def add(self, line: int | None, message: str) -> None:
        """Record a fault."""
        first, count = self._lines.get(message, (line, 0))
        if count or not self.full:
            self._lines[message] = (first, count + 1)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def faults(self) -> tuple[Fault, ...]:
        """Return them in the order they were found."""
        return tuple(Fault(line, message, count) for message, (line, count) in self._lines.items())
