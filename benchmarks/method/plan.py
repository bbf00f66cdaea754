"""The order of the cells, and which learning rate a method's final runs have.

Budget by budget, task by task: first every method's tuning runs, then the final ones, seed by seed over all methods.
So an unfinished plan is a comparison of fewer tasks or seeds, not of fewer methods.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.method.methods import BUDGETS, METHODS, Budget
from benchmarks.method.results import Cell, Part, Result
from benchmarks.method.tasks import Task

TUNING_SEEDS = (101,)
SEEDS = (1, 2, 3, 4, 5)


class Chosen(NamedTuple):
    """A method's learning rate, and the mean validation scores of all rates it was chosen from.

    A rate at which a run's loss diverged has no score.
    """

    rate: float
    scores: dict[float, float | None]

    @property
    def at_edge(self) -> bool:
        """Whether a rate beyond those tried might be better."""
        return self.rate in {min(self.scores), max(self.scores)}


def choose_rate(results: Sequence[Result], task: Task, budget: Budget, method: str) -> Chosen | None:
    """Return the rate with the best mean validation score, the middle of equals; None before every rate was tried.

    Raises:
        ValueError: the loss diverged at every rate.
    """
    found: dict[Cell, Result] = {result.cell: result for result in results if result.cell.part == "tuning"}
    scores: dict[float, float | None] = {}
    for rate in task.rates:
        cells = [_tuning(task, budget, method, rate, seed) for seed in TUNING_SEEDS]
        if any(cell not in found for cell in cells):
            return None
        diverged = any(found[cell].diverged for cell in cells)
        scores[rate] = None if diverged else statistics.mean(found[cell].validation[task.measured] for cell in cells)
    sign = 1 if task.greater_is_better else -1
    numbers = {rate: sign * score for rate, score in scores.items() if score is not None}
    if not numbers:
        raise ValueError(f"{task.name}, {budget}: {method} diverges at every rate")
    equals = sorted(rate for rate, number in numbers.items() if number == max(numbers.values()))
    return Chosen(equals[(len(equals) - 1) // 2], scores)


def next_cell(results: Sequence[Result], tasks: Sequence[Task], budgets: Sequence[Budget] = BUDGETS) -> Cell | None:
    """Return the first cell of the plan that has no result; None when all have."""
    done = {result.cell for result in results}
    return next((cell for cell in cells(results, tasks, budgets) if cell not in done), None)


def cells(results: Sequence[Result], tasks: Sequence[Task], budgets: Sequence[Budget]) -> Iterator[Cell]:
    """Yield the plan's cells in order, as far as the results choose the learning rates of the final runs."""
    for budget in budgets:
        for task in tasks:
            yield reference(task)
            for seed in TUNING_SEEDS:
                for rate in task.rates:
                    yield from (_tuning(task, budget, method, rate, seed) for method in METHODS)
            chosen = {method: choose_rate(results, task, budget, method) for method in METHODS}
            for seed in SEEDS:
                for method, one in chosen.items():
                    if one is None:
                        return
                    yield final(task, budget, method, one.rate, seed)


def made(results: Sequence[Result], task: Task, budget: Budget) -> Counter[Part]:
    """Count the tuning and final runs of the plan that have a result; one at a rate no longer chosen is not its."""
    done = {result.cell for result in results}
    return Counter(cell.part for cell in cells(results, [task], [budget]) if cell in done and cell.budget == budget)


def reference(task: Task) -> Cell:
    """Return the cell of the base without an adapter."""
    return Cell(task=task.name, part="reference")


def final(task: Task, budget: Budget, method: str, rate: float, seed: int) -> Cell:
    """Return the cell of a final run."""
    return Cell(task=task.name, part="final", budget=budget, method=method, rate=rate, seed=seed)


def _tuning(task: Task, budget: Budget, method: str, rate: float, seed: int) -> Cell:
    return Cell(task=task.name, part="tuning", budget=budget, method=method, rate=rate, seed=seed)


def num_cells(task: Task) -> tuple[int, int]:
    """Return how many tuning and how many final runs one budget of a task has."""
    return len(TUNING_SEEDS) * len(task.rates) * len(METHODS), len(SEEDS) * len(METHODS)
