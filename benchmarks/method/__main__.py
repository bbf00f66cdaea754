"""The method benchmark: run what the plan still lacks, and write docs/method.md from the results.

python -m benchmarks.method                        all tasks (about five hours of one core), then the page
python -m benchmarks.method --budget-hours 1       as much as fits into an hour of CPU time
python -m benchmarks.method --tasks spam category  some tasks
python -m benchmarks.method --only small           one of the two adapter sizes
python -m benchmarks.method --gemma                the generation tasks on Gemma 3 270M too (`make gemma`)
python -m benchmarks.method --report               the page alone, from the results there are

It can be stopped at any time: a finished cell is a line of the results file, and the next call goes on after it.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.marked import put_between
from benchmarks.method.display import Display, display_on
from benchmarks.method.estimate import seconds_left, seconds_of
from benchmarks.method.methods import BUDGETS, Budget
from benchmarks.method.plan import next_cell
from benchmarks.method.prepare import Prepared, prepare
from benchmarks.method.report.comparison import compare_all
from benchmarks.method.report.page import BEGIN, END, render
from benchmarks.method.report.pictures import draw_pictures
from benchmarks.method.results import append_result, read_results
from benchmarks.method.tasks import TASKS, Task
from benchmarks.method.train import run_cell
from headmix_adapters.train.errors import Interrupted
from headmix_adapters.train.terminal.quiet import quiet_packages

DOCS = Path(__file__).parents[2] / "docs"
RESULTS, PAGE = DOCS / "method.jsonl", "method.md"


def main(arguments: list[str] | None = None) -> int:
    """Run and report; return the exit status, 130 if interrupted."""
    options = _parse(arguments)
    if not options.report:
        display = display_on(Console(stderr=True, width=None if sys.stderr.isatty() else 160))
        try:
            with quiet_packages():
                run(_tasks(options), _budgets(options), options.results, options.budget_hours, display)
        except (Interrupted, KeyboardInterrupt):
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
        finally:
            display.close()
    if options.report or options.results == RESULTS:
        write_page(options.results)
    return 0


def run(tasks: Sequence[Task], budgets: Sequence[Budget], results: Path, hours: float | None, display: Display) -> None:
    """Run the cells that have no result, one after the other, until all have or the CPU time is used up."""
    began = time.process_time()
    prepared: Prepared | None = None
    while (cell := next_cell(done := read_results(results), tasks, budgets)) is not None:
        used = time.process_time() - began
        if hours is not None and used + seconds_of(done, cell) > hours * 3600:
            display.say(f"stopped before {cell}: {hours:g} hours of CPU time are used up")
            return
        if prepared is None or prepared.task.name != cell.task:
            display.say(f"loading {cell.task}")
            prepared = prepare(next(task for task in tasks if task.name == cell.task))
        display.begin(cell, seconds_left(done, tasks, budgets))
        result = run_cell(prepared, cell, display.training())
        append_result(results, result)
        display.end(result)


def write_page(results: Path, docs: Path = DOCS) -> None:
    """Draw the pictures and write the page's results from a results file."""
    found = read_results(results)
    pictures = draw_pictures(compare_all(found))
    for name, picture in pictures.items():
        (docs / "pictures" / name).write_text(picture, encoding="utf-8")
    page = docs / PAGE
    page.write_text(put_between(page.read_text(), BEGIN, END, render(found, list(pictures))), encoding="utf-8")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), help="run these tasks alone")
    parser.add_argument("--only", choices=BUDGETS, help="run adapters of this size alone")
    parser.add_argument("--budget-hours", type=float, help="stop before this much CPU time is exceeded")
    parser.add_argument("--gemma", action="store_true", help="run the generation tasks on Gemma 3 270M too")
    parser.add_argument("--report", action="store_true", help="run nothing: write the page from the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results, one JSON object a line")
    return parser.parse_args(arguments)


def _tasks(options: argparse.Namespace) -> list[Task]:
    if options.tasks:
        return [TASKS[name] for name in options.tasks]
    return [task for task in TASKS.values() if options.gemma or not task.optional]


def _budgets(options: argparse.Namespace) -> Sequence[Budget]:
    return (options.only,) if options.only else BUDGETS


if __name__ == "__main__":
    sys.exit(main())
