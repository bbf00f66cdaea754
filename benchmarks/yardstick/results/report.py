"""What one run leaves behind: every value of every round, the machine, and one line of a results file."""

from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.yardstick.contenders.contender import Measured
from benchmarks.yardstick.floors import Ceilings


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `kind` is `vllm` for the run next to vLLM, which has its own environment."""

    kind: Literal["bench", "vllm"]
    command: str
    seconds: float
    machine: dict[str, str | int]
    ceilings: Ceilings
    measured: list[Measured]

    def find(self, name: str) -> Measured | None:
        """Return a measurement of this run where it was made."""
        return next((measured for measured in self.measured if measured.name == name), None)


def read_reports(path: Path) -> list[Report]:
    """Return the runs of a results file, oldest first; none if there is no such file."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(Report)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


def append_report(path: Path, report: Report) -> None:
    """Add a run to a results file; its values keep five digits."""
    rounded = msgspec.structs.replace(report, measured=[_rounded(measured) for measured in report.measured])
    with path.open("ab") as file:
        file.write(msgspec.json.encode(rounded) + b"\n")


def latest(reports: list[Report], kind: str) -> Report | None:
    """Return the last run of a kind."""
    return next((report for report in reversed(reports) if report.kind == kind), None)


def _rounded(measured: Measured) -> Measured:
    series = [
        msgspec.structs.replace(one, rounds=[[float(f"{value:.5g}") for value in values] for values in one.rounds])
        for one in measured.series
    ]
    floors = {name: float(f"{value:.5g}") for name, value in measured.floors.items()}
    return msgspec.structs.replace(measured, series=series, floors=floors)
