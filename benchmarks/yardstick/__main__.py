"""Run the yardstick: every measurement, one table, the raw values to a results file; the last line is one JSON object.

python -m benchmarks.yardstick                     everything (`make bench`)
python -m benchmarks.yardstick --only throughput   one measurement; may be given several times
python -m benchmarks.yardstick --quick             all of it on tiny models, in seconds: shows that it works, no more
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.yardstick.contenders.contender import Measured
from benchmarks.yardstick.floors import Ceilings, measure_ceilings
from benchmarks.yardstick.measurements import (
    classification,
    cold_load,
    perplexity,
    poisson,
    prefill,
    sampling,
    single,
    throughput,
    working_set,
    zipf,
)
from benchmarks.yardstick.results.goals import reach
from benchmarks.yardstick.results.page import COLUMNS, put_figures, render_figures, rows
from benchmarks.yardstick.results.report import Report, append_report, latest, read_reports
from benchmarks.yardstick.sizes import FULL, QUICK
from benchmarks.yardstick.stage import Stage
from benchmarks.yardstick.tiny import write_tiny_bases
from harness.machine import describe_machine

GENERATOR, ENCODER = "smollm2-135m-instruct", "minilm-l6"
DOCS = Path(__file__).parents[2] / "docs"
RESULTS, PAGE = DOCS / "benchmarks.jsonl", DOCS / "benchmarks.md"

MEASUREMENTS: Mapping[str, Callable[[Stage, Ceilings], Measured]] = {
    throughput.NAME: throughput.measure,
    sampling.NAME: sampling.measure,
    single.NAME: single.measure,
    prefill.NAME: prefill.measure,
    poisson.NAME: poisson.measure,
    working_set.NAME: working_set.measure,
    zipf.NAME: zipf.measure,
    cold_load.ALONE: cold_load.measure_alone,
    cold_load.DISTURBANCE: cold_load.measure_disturbance,
    classification.NAME: classification.measure,
    perplexity.NAME: perplexity.measure,
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; returns the exit status."""
    options = _parse(arguments)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="headmix-bench-") as name:
        folder = Path(name)
        bases = write_tiny_bases(folder / "bases") if options.quick else (GENERATOR, ENCODER)
        stage = Stage(*bases, folder, sizes, lambda line: console.print(line, highlight=False))
        report = run(stage, options.only or list(MEASUREMENTS), _command(options))
    previous = [] if options.quick else read_reports(RESULTS)
    if not (options.quick or options.only):
        append_report(RESULTS, report)
        PAGE.write_text(put_figures(PAGE.read_text(), render_figures(read_reports(RESULTS))))
    show(report, console)
    print(json.dumps({**reach(report, latest(previous, "vllm")), "machine": report.machine}))
    return 0


def run(stage: Stage, names: list[str], command: str) -> Report:
    """Run measurements one after the other, each with engines and models of its own."""
    began = time.perf_counter()
    ceilings = measure_ceilings(stage.sizes.machine_mib, stage.sizes.machine_side)
    measured = []
    for name in names:
        stage.say(f"{name}:")
        try:
            measured.append(MEASUREMENTS[name](stage, ceilings))
        finally:
            stage.release()
    return Report(
        kind="bench",
        command=command,
        seconds=time.perf_counter() - began,
        machine=describe_machine(),
        ceilings=ceilings,
        measured=measured,
    )


def show(report: Report, console: Console) -> None:
    """Print the table."""
    table = Table(*COLUMNS)
    for row in rows(report):
        table.add_row(*row)
    console.print(table)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="measure this alone")
    parser.add_argument("--quick", action="store_true", help="tiny models and sizes")
    return parser.parse_args(arguments)


def _command(options: argparse.Namespace) -> str:
    if options.quick or options.only:
        return "python -m benchmarks.yardstick"
    return "make bench"


if __name__ == "__main__":
    sys.exit(main())
