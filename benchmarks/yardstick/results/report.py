"""The results file: every value of every round and the machine, one line per run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.yardstick.contenders.contender import Measured, Series
from benchmarks.yardstick.floors import Ceilings


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run, of everything or of a part."""

    command: str
    seconds: float
    machine: dict[str, str | int]
    ceilings: Ceilings
    measured: list[Measured]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs, oldest first. A measurement is shown from the newest run that has it."""

    reports: Sequence[Report]

    def find(self, name: str) -> Measured | None:
        """Return a measurement if it was made."""
        report = self.report_of(name)
        return None if report is None else next(measured for measured in report.measured if measured.name == name)

    def series(self, name: str, contender: str) -> Series | None:
        """Return a contender's series if it ran."""
        measured = self.find(name)
        return None if measured is None else measured.find(contender)

    def report_of(self, name: str) -> Report | None:
        """Return the run from which a measurement is shown."""
        return next(
            (r for r in reversed(self.reports) if any(measured.name == name for measured in r.measured)),
            None,
        )

    def names(self) -> list[str]:
        """Return the names of everything measured, in the order of first appearance."""
        return list(dict.fromkeys(measured.name for report in self.reports for measured in report.measured))


def read_reports(path: Path) -> list[Report]:
    """Return the runs of a results file, oldest first; none if there is no such file."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(Report)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


def write_reports(path: Path, reports: Sequence[Report]) -> None:
    """Write a results file atomically; values keep five digits."""
    lines = [
        msgspec.json.encode(msgspec.structs.replace(report, measured=[_rounded(m) for m in report.measured]))
        for report in reports
    ]
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(b"".join(line + b"\n" for line in lines))
    unfinished.replace(path)


def _rounded(measured: Measured) -> Measured:
    series = [
        msgspec.structs.replace(one, rounds=[[float(f"{value:.5g}") for value in values] for values in one.rounds])
        for one in measured.series
    ]
    floors = {name: float(f"{value:.5g}") for name, value in measured.floors.items()}
    return msgspec.structs.replace(measured, series=series, floors=floors)
