"""The results file: one line for each finished cell, safe on disk before the next one starts.

A run killed in the middle of a line leaves a line without its end: it is not read, and the next line replaces it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.method.methods import Budget

Part = Literal["tuning", "final", "reference"]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One training run of the plan. A `reference` is the base without an adapter: no budget, method, rate or seed."""

    task: str
    part: Part
    budget: Budget | None = None
    method: str | None = None
    rate: float | None = None
    seed: int | None = None

    def __str__(self) -> str:
        if self.part == "reference":
            return f"{self.task}: base without an adapter"
        return f"{self.task}, {self.budget}: {self.method}, rate {self.rate:g}, seed {self.seed} ({self.part})"


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finished cell.

    `validation` has the scores of a tuning run, `test` those of a final run or a reference, never both. `outcomes`
    has a number for each test example: 1 for a right label and 0 for a wrong one, or an answer's loss per token;
    `tokens` has each answer's number of tokens. `diverged`: a tuning run whose loss diverged, so it has no scores.
    """

    cell: Cell
    parameters: int = 0
    steps: int = 0
    validation: dict[str, float] = {}
    test: dict[str, float] = {}
    outcomes: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    diverged: bool = False
    cpu_seconds: float = 0.0
    machine: dict[str, str | int] = {}


_DECODER = msgspec.json.Decoder(Result)


def read_results(path: Path) -> list[Result]:
    """Return the results of a file, oldest first; none if there is no such file."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [_DECODER.decode(line) for line in whole.splitlines() if line.strip()]


def append_result(path: Path, result: Result) -> None:
    """Add a line and wait until it is on disk."""
    with path.open("a+b") as file:
        file.seek(0)
        whole, end, _ = file.read().rpartition(b"\n")
        file.truncate(len(whole) + len(end))
        file.write(msgspec.json.encode(result) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def find(results: Sequence[Result], cell: Cell) -> Result | None:
    """Return the result of a cell, or None if it has not been run."""
    return next((result for result in results if result.cell == cell), None)
