"""What the results say about one task and budget: scores of the final runs, and each method's difference from LoRA.

Only seeds that every method has run are compared, so an unfinished plan never favours a method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from benchmarks.method.methods import BUDGETS, LORA, METHODS, Budget
from benchmarks.method.plan import SEEDS, Chosen, choose_rate, final, reference
from benchmarks.method.report.statistics import Difference, Numbers, holm, paired_bootstrap
from benchmarks.method.results import Result, find
from benchmarks.method.tasks import TASKS, Task

AGAINST = tuple(method for method in METHODS if method != LORA)


@dataclass(frozen=True, slots=True)
class Against:
    """A method's difference from LoRA; `better` of `seeds` seeds are better than LoRA's with the same seed."""

    difference: Difference
    corrected: float
    better: int
    seeds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One task and budget: the rates chosen, the final runs of the seeds all methods have, the differences."""

    task: Task
    budget: Budget
    chosen: dict[str, Chosen]
    runs: dict[str, list[Result]]
    alone: Result | None
    against: dict[str, Against]

    @property
    def seeds(self) -> int:
        """How many seeds are compared."""
        return len(next(iter(self.runs.values()), []))


def planned(results: Sequence[Result]) -> list[tuple[Task, Budget]]:
    """Return every task and budget of the plan; an optional one belongs to it once it has a run."""
    begun = {(one.cell.task, one.cell.budget) for one in results}
    return [
        (task, budget)
        for budget in BUDGETS
        for task in TASKS.values()
        if not task.optional or (task.name, budget) in begun
    ]


def num_compared(results: Sequence[Result]) -> int:
    """Return how many comparisons the whole plan makes; p-values are corrected for all, also before they are made."""
    return len(AGAINST) * len(planned(results))


def compare_all(results: Sequence[Result]) -> list[Comparison]:
    """Return every task and budget of which all methods' rates are chosen, with corrected p-values."""
    gathered = (_gather(results, task, budget) for task, budget in planned(results))
    found = [one for one in gathered if one is not None]
    tested = [(one, method, _difference(one, method)) for one in found if one.seeds > 1 for method in AGAINST]
    values = holm([difference.p for _, _, difference in tested], num_compared(results))
    for (one, method, difference), corrected in zip(tested, values, strict=True):
        pairs = zip(scores_of(one, method), scores_of(one, LORA), strict=True)
        sign = 1 if one.task.greater_is_better else -1
        better = sum(sign * (mine - theirs) > 0 for mine, theirs in pairs)
        one.against[method] = Against(difference, corrected, better, one.seeds)
    return found


def scores_of(comparison: Comparison, method: str) -> list[float]:
    """Return the test scores of a method's final runs, seed by seed."""
    return [run.test[comparison.task.measured] for run in comparison.runs[method]]


def _gather(results: Sequence[Result], task: Task, budget: Budget) -> Comparison | None:
    chosen = {method: choose_rate(results, task, budget, method) for method in METHODS}
    if any(one is None for one in chosen.values()):
        return None
    rates = {method: cast("Chosen", one) for method, one in chosen.items()}
    runs: dict[str, list[Result]] = {method: [] for method in METHODS}
    for seed in SEEDS:
        row = {method: find(results, final(task, budget, method, rates[method].rate, seed)) for method in METHODS}
        if all(one is not None for one in row.values()):
            for method, one in row.items():
                runs[method].append(cast("Result", one))
    return Comparison(task, budget, rates, runs, find(results, reference(task)), {})


def _difference(one: Comparison, method: str) -> Difference:
    mine, theirs = one.runs[method], one.runs[LORA]
    weights = mine[0].tokens or (1,) * len(mine[0].outcomes)
    return paired_bootstrap(_outcomes(mine), _outcomes(theirs), np.asarray(weights, dtype=np.float64))


def _outcomes(runs: Sequence[Result]) -> Numbers:
    return np.asarray([run.outcomes for run in runs], dtype=np.float64)
