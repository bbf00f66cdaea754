"""Made-up results: what the plan would have measured, with scores that a test chooses."""

from collections.abc import Callable, Sequence

from benchmarks.method.methods import BUDGETS, Budget
from benchmarks.method.plan import next_cell
from benchmarks.method.results import Cell, Result
from benchmarks.method.tasks import TASKS, Task

MACHINE: dict[str, str | int] = {"date": "2026-01-01", "cpu": "a CPU", "cores": 2, "torch_threads": 1, "torch": "2"}
EXAMPLES = 40
REQUIRED = tuple(task for task in TASKS.values() if not task.optional)


def made_up(
    cells: int | None,
    right: Callable[[Cell], int],
    tasks: Sequence[Task] = REQUIRED,
    budgets: Sequence[Budget] = BUDGETS,
) -> list[Result]:
    """Return the first cells' results; `right` says how many of 40 test or validation examples a cell gets right.

    A generator's loss per token is 1 for an answer it gets right and 2 for another.
    """
    results: list[Result] = []
    while (cells is None or len(results) < cells) and (cell := next_cell(results, tasks, budgets)) is not None:
        results.append(_result(cell, 0 if cell.part == "reference" else right(cell)))
    return results


def _result(cell: Cell, right: int) -> Result:
    task = TASKS[cell.task]
    hits = [1.0] * right + [0.0] * (EXAMPLES - right)
    outcomes = tuple(hits) if task.classifies else tuple(2.0 - hit for hit in hits)
    scores = {task.measured: sum(outcomes) / EXAMPLES}
    if cell.part == "reference":
        return Result(cell=cell, test=scores, machine=MACHINE)
    if cell.part == "tuning":
        return Result(cell=cell, parameters=1000, steps=60, validation=scores, cpu_seconds=10.0, machine=MACHINE)
    tokens = () if task.classifies else (7,) * EXAMPLES
    return Result(
        cell=cell, parameters=1000, steps=60, test=scores, outcomes=outcomes, tokens=tokens, cpu_seconds=10.0,
        machine=MACHINE,
    )  # fmt: skip
