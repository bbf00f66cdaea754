"""Run the yardstick: all measurements, one table, raw values in a results file; the last line is one JSON object.

python -m benchmarks.yardstick                     everything that can run here (`make bench`)
python -m benchmarks.yardstick --only throughput   one measurement; may be given several times
python -m benchmarks.yardstick --rounds 1          a short trial; nothing is saved
python -m benchmarks.yardstick --quick             everything on tiny models, in seconds: only a check that it works

Results are saved to docs/benchmarks.jsonl after each measurement; the page and its pictures show the newest figures of
every measurement, whichever run they come from.
"""

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.yardstick.contenders.contender import Measured
from benchmarks.yardstick.contenders.llama_server import llama_version
from benchmarks.yardstick.contenders.vllm_process import vllm_version
from benchmarks.yardstick.floors import measure_ceilings
from benchmarks.yardstick.measurements.table import MEASUREMENTS
from benchmarks.yardstick.results.goals import reach
from benchmarks.yardstick.results.page import COLUMNS, in_order, put_figures, render_figures, rows
from benchmarks.yardstick.results.pictures import draw_pictures, shown_in
from benchmarks.yardstick.results.report import Report, Runs, read_reports, write_reports
from benchmarks.yardstick.sizes import FULL, QUICK, Sizes
from benchmarks.yardstick.stage import Stage
from benchmarks.yardstick.tiny import write_tiny_bases
from harness.machine import describe_machine

GENERATOR, ENCODER = "smollm2-135m-instruct", "minilm-l6"
DOCS = Path(__file__).parents[2] / "docs"
RESULTS, PAGE, PICTURES = DOCS / "benchmarks.jsonl", DOCS / "benchmarks.md", DOCS / "pictures"


def main(arguments: list[str] | None = None) -> int:
    """Run the requested measurements; return the exit status."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends other projects' processes on the way out
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    kept = not (options.quick or options.rounds)
    before = read_reports(RESULTS) if kept else []

    def keep(report: Report) -> None:
        if kept:
            write_reports(RESULTS, [*before, report])

    with tempfile.TemporaryDirectory(prefix="headmix-bench-") as name:
        folder = Path(name)
        bases = write_tiny_bases(folder / "bases") if options.quick else (GENERATOR, ENCODER)
        stage = Stage(*bases, folder, _sizes(options), lambda line: console.print(line, highlight=False, markup=False))
        report = run(stage, _chosen(options, stage.say), _command(options), keep)
    if kept:
        write_page()
    show(report, console)
    print(json.dumps({**reach(Runs([*before, report])), "machine": report.machine}))
    return 0


def run(stage: Stage, names: Sequence[str], command: str, keep: Callable[[Report], None]) -> Report:
    """Run measurements one after the other, each with its own engines and models; call `keep` after each."""
    began = time.perf_counter()
    ceilings = measure_ceilings(stage.sizes.machine_mib, stage.sizes.machine_side)
    rivals = {"vllm": vllm_version(), "llama-cpp-python": llama_version()}
    machine = {**describe_machine(), **{name: version for name, version in rivals.items() if version is not None}}
    measured: list[Measured] = []

    def report() -> Report:
        seconds = time.perf_counter() - began
        return Report(command=command, seconds=seconds, machine=machine, ceilings=ceilings, measured=list(measured))

    for name in names:
        stage.say(f"{name}:")
        try:
            measured.append(MEASUREMENTS[name].measure(stage, ceilings))
        finally:
            stage.release()
        keep(report())
    return report()


def write_page() -> None:
    """Draw the pictures and write the page from the results file."""
    reports = read_reports(RESULTS)
    pictures = draw_pictures(Runs(reports))
    for name, picture in pictures.items():
        (PICTURES / name).write_text(picture, encoding="utf-8")
    PAGE.write_text(put_figures(PAGE.read_text(), render_figures(reports, shown_in(pictures))))


def show(report: Report, console: Console) -> None:
    """Print the table."""
    table = Table(*COLUMNS)
    for measured in in_order(Runs([report])):
        for row in rows(measured):
            table.add_row(*row)
    console.print(table)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="measure this alone")
    parser.add_argument("--quick", action="store_true", help="tiny models and sizes; nothing is kept")
    parser.add_argument("--rounds", type=int, default=0, help="so many rounds of everything; nothing is kept")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Return what to measure: what is requested, or everything whose rivals are on this machine."""
    if options.only:
        return list(options.only)
    absent = [name for name, one in MEASUREMENTS.items() if one.rival and (options.quick or not one.ready)]
    if absent:
        say(f"left out: {', '.join(absent)} (make bench-vllm and make bench-llama install what they need)")
    return [name for name in MEASUREMENTS if name not in absent]


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL
    rounds = options.rounds
    return dataclasses.replace(sizes, rounds=rounds, few_rounds=rounds, slow_rounds=rounds) if rounds else sizes


def _command(options: argparse.Namespace) -> str:
    return "python -m benchmarks.yardstick --only" if options.only else "make bench"


if __name__ == "__main__":
    sys.exit(main())
