"""How much CPU time cells will take: the mean of the same task's finished ones, or what the task expects."""

import statistics
from collections.abc import Sequence

from benchmarks.method.methods import Budget
from benchmarks.method.plan import made, num_cells
from benchmarks.method.results import Cell, Result
from benchmarks.method.tasks import TASKS, Task


def seconds_of(results: Sequence[Result], cell: Cell) -> float:
    """Return the CPU seconds a cell will take."""
    return _mean(results, TASKS[cell.task])


def seconds_left(results: Sequence[Result], tasks: Sequence[Task], budgets: Sequence[Budget]) -> float:
    """Return the CPU seconds the rest of the plan will take."""
    total = 0.0
    for task in tasks:
        for budget in budgets:
            total += (sum(num_cells(task)) - made(results, task, budget).total()) * _mean(results, task)
    return total


def _mean(results: Sequence[Result], task: Task) -> float:
    seconds = [one.cpu_seconds for one in results if one.cell.task == task.name and one.cell.part != "reference"]
    return statistics.mean(seconds) if seconds else task.expected_seconds
