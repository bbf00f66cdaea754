"""The results of a run: the number of inputs, the shortest for each answer, the shortest for each fault.

Written to a folder as the run goes, since Atheris ends its process without notice. Faults are distinguished by where
they were raised; a fault does not end the run.
"""

import hashlib
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.fuzz.targets.target import Target

SLOW_SECONDS = 5.0
"""The CPU time any input may take, under instrumentation."""
WRITE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """A run's figures so far; `slowest` is the most CPU seconds one input took."""

    inputs: int
    answers: int
    faults: int
    slowest: float


class Record:
    """Tries inputs and records the results in `folder`: `kept`, `faults` and `figures.json`."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._shortest: dict[str, int] = {}
        self._inputs = self._answers = self._faults = 0
        self._slowest = 0.0
        self._written = 0.0
        for name in ("kept", "faults"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def try_input(self, data: bytes) -> None:
        """Check one input."""
        began = time.process_time()
        try:
            answer = self._target.check(data)
        except Exception as error:  # noqa: BLE001 - any exception is a finding
            self._note_fault(data, _place_of(error), "".join(traceback.format_exception(error)))
        else:
            self._answers += self._keep("kept", answer, data)
        seconds = time.process_time() - began
        if seconds > SLOW_SECONDS:
            self._note_fault(data, "slow", f"{seconds:.1f} s of computing")
        self._inputs += 1
        self._slowest = max(self._slowest, seconds)
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the figures."""
        self._written = time.monotonic()
        figures = Figures(self._inputs, self._answers, self._faults, round(self._slowest, 3))
        written = self._folder / "figures.tmp"
        written.write_bytes(msgspec.json.encode(figures))
        written.replace(self._folder / "figures.json")

    def _note_fault(self, data: bytes, place: str, words: str) -> None:
        self._faults += self._keep("faults", place, data)
        if self._shortest[f"faults/{place}"] == len(data):
            (self._folder / "faults" / f"{_name(place)}.txt").write_text(words, encoding="utf-8", errors="replace")

    def _keep(self, kind: str, label: str, data: bytes) -> bool:
        """Keep the input if it is the shortest with its label; return whether the label is new."""
        key = f"{kind}/{label}"
        known = self._shortest.get(key)
        if known is None or len(data) < known:
            self._shortest[key] = len(data)
            (self._folder / kind / f"{_name(label)}.bin").write_bytes(data)
        return known is None


def _name(label: str) -> str:
    words = "".join(char if char.isascii() and char.isalnum() else "-" for char in label)
    return f"{words[:48].strip('-').lower()}-{hashlib.sha256(label.encode(errors='replace')).hexdigest()[:6]}"


def _place_of(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {Path(last.filename).name} {last.lineno}"
