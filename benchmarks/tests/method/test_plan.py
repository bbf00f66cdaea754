"""The plan: fair at every point where it may stop, and test runs only at a rate chosen by validation."""

from collections import Counter

import msgspec
import pytest

from benchmarks.method.estimate import seconds_left
from benchmarks.method.methods import BUDGETS, KERNEL_MIX, LORA, METHODS
from benchmarks.method.plan import SEEDS, TUNING_SEEDS, choose_rate, next_cell, num_cells
from benchmarks.method.results import Cell
from benchmarks.method.tasks import TASKS
from benchmarks.tests.method.made_up import REQUIRED, made_up

CATEGORY, KINGJAMES = TASKS["category"], TASKS["kingjames"]


def equal(_: Cell) -> int:
    return 20


def test_every_method_has_the_same_runs() -> None:
    results = made_up(None, equal)
    assert next_cell(results, REQUIRED) is None
    runs = Counter((r.cell.method, r.cell.part, r.cell.task, r.cell.budget, r.cell.seed) for r in results)
    for task in REQUIRED:
        for budget in BUDGETS:
            for method in METHODS:
                tuned = [runs[method, "tuning", task.name, budget, seed] for seed in TUNING_SEEDS]
                assert tuned == [len(task.rates)] * len(TUNING_SEEDS)
                assert [runs[method, "final", task.name, budget, seed] for seed in SEEDS] == [1] * len(SEEDS)
    planned = sum(sum(num_cells(task)) for task in REQUIRED) * len(BUDGETS)
    assert len(results) == planned + len(REQUIRED)  # and each base alone


def test_wherever_the_plan_stops_no_method_is_more_than_a_run_ahead() -> None:
    results = made_up(None, equal, [CATEGORY])
    for stop in range(len(results)):
        runs = Counter(result.cell.method for result in results[:stop] if result.cell.method is not None)
        assert not runs or max(runs.values()) - min(runs[method] for method in METHODS) <= 1


def test_seeds_that_choose_the_rate_are_never_tested() -> None:
    assert not set(TUNING_SEEDS) & set(SEEDS)
    results = made_up(None, equal, [KINGJAMES])
    assert all(not result.test for result in results if result.cell.part == "tuning")
    assert all(not result.validation for result in results if result.cell.part != "tuning")


def test_no_method_is_tested_before_every_method_has_tried_every_rate() -> None:
    parts = [result.cell.part for result in made_up(None, equal, [CATEGORY], ["small"])]
    tuning, final = num_cells(CATEGORY)
    assert parts == ["reference", *["tuning"] * tuning, *["final"] * final]


def test_each_method_gets_the_rate_that_validates_best_for_it() -> None:
    best = {KERNEL_MIX: 0.008, LORA: 0.001}
    results = made_up(None, lambda cell: 30 if cell.rate == best.get(cell.method or "", 0.004) else 20, [CATEGORY])
    for method in METHODS:
        chosen = choose_rate(results, CATEGORY, "small", method)
        assert chosen is not None
        assert (chosen.rate, chosen.at_edge) == (best.get(method, 0.004), method == LORA)
        assert {r.cell.rate for r in results if (r.cell.part, r.cell.method) == ("final", method)} == {chosen.rate}


def test_a_lower_loss_is_better_and_of_equal_rates_the_middle_is_chosen() -> None:
    results = made_up(None, lambda cell: 30 if cell.rate in {0.002, 0.004, 0.008, 0.016} else 20, [KINGJAMES])
    chosen = choose_rate(results, KINGJAMES, "large", LORA)
    assert chosen is not None
    assert chosen.rate == 0.004
    assert chosen.scores[0.004] == pytest.approx(1.25)


def test_a_rate_at_which_training_diverges_is_tried_and_not_chosen() -> None:
    results = [
        msgspec.structs.replace(one, validation={}, diverged=True) if one.cell.rate == 0.032 else one
        for one in made_up(None, lambda cell: 30 if cell.rate == 0.016 else 20, [KINGJAMES], ["small"])
    ]
    chosen = choose_rate(results, KINGJAMES, "small", LORA)
    assert chosen is not None
    assert (chosen.rate, chosen.scores[0.032], chosen.at_edge) == (0.016, None, False)
    everywhere = [msgspec.structs.replace(one, diverged=True) for one in results]
    with pytest.raises(ValueError, match="LoRA diverges at every rate"):
        choose_rate(everywhere, KINGJAMES, "small", LORA)


def test_a_rate_is_chosen_only_when_all_were_tried() -> None:
    tuning, _ = num_cells(CATEGORY)
    assert choose_rate(made_up(tuning, equal), CATEGORY, "small", METHODS[-1]) is None
    assert choose_rate(made_up(tuning + 1, equal), CATEGORY, "small", METHODS[-1]) is not None


def test_a_run_at_a_rate_that_is_no_longer_chosen_is_made_again() -> None:
    results = made_up(None, equal, [CATEGORY], ["small"])
    again = [one for one in results if (one.cell.part, one.cell.method) != ("final", LORA)]
    moved = [one for one in results if (one.cell.part, one.cell.method) == ("final", LORA)]
    elsewhere = [
        type(one)(cell=Cell(task="category", part="final", budget="small", method=LORA, rate=1.0, seed=one.cell.seed))
        for one in moved
    ]
    cell = next_cell([*again, *elsewhere], [CATEGORY], ["small"])
    assert cell is not None
    assert (cell.method, cell.seed, cell.rate) == (LORA, 1, 0.004)


def test_the_time_left_has_the_runs_whose_rate_is_no_longer_chosen() -> None:
    results = made_up(None, equal, [CATEGORY], ["small"])
    assert seconds_left(results, [CATEGORY], ["small"]) == 0.0
    results[-1] = msgspec.structs.replace(results[-1], cell=msgspec.structs.replace(results[-1].cell, rate=7.0))
    assert seconds_left(results, [CATEGORY], ["small"]) == 10.0
