"""A sweep is every combination of its values, each a valid recipe."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import Recipe, SweepTable
from headmix_adapters.train.sweep.grid import candidates

RecipeMaker = Callable[..., Recipe]


def test_without_a_table_the_learning_rate_is_tried_and_two_around_it(recipe: RecipeMaker) -> None:
    runs = candidates(recipe("generation", learning_rate=2e-3))
    assert [run.recipe.training.learning_rate for run in runs] == [0.000667, 0.002, 0.006]
    assert [run.file_name for run in runs] == [
        "01-0.000667.safetensors",
        "02-0.002.safetensors",
        "03-0.006.safetensors",
    ]
    assert all(run.recipe.sweep is None for run in runs)


def test_every_combination_is_a_run_in_a_fixed_order(recipe: RecipeMaker) -> None:
    table = SweepTable(learning_rate=(1e-3, 2e-3), preset=("lite-qv", "gpt2-nlg"))
    runs = candidates(msgspec.structs.replace(recipe("generation"), sweep=table))
    assert [run.label for run in runs] == [
        "preset lite-qv, learning_rate 0.001",
        "preset lite-qv, learning_rate 0.002",
        "preset gpt2-nlg, learning_rate 0.001",
        "preset gpt2-nlg, learning_rate 0.002",
    ]
    assert [run.recipe.adapter.preset for run in runs] == ["lite-qv", "lite-qv", "gpt2-nlg", "gpt2-nlg"]
    assert len({run.file_name for run in runs}) == 4


def test_a_loras_ranks_are_tried(recipe: RecipeMaker) -> None:
    lora = recipe("generation", adapter={"method": "lora", "rank": 4, "sites": ["q", "v"]})
    runs = candidates(msgspec.structs.replace(lora, sweep=SweepTable(rank=(2, 8))))
    assert [run.recipe.adapter.rank for run in runs] == [2, 8]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give learning_rate, preset or rank"),
        ({"learning_rate": [1e-3, 1e-3]}, "a value is listed twice"),
        ({"learning_rate": [-1]}, "sweep.learning_rate"),
        ({"rank": [4]}, "sweep.rank does not belong to method kernel-mix"),
        ({"preset": ["lite"]}, "sweep.preset"),
    ],
)
def test_a_table_that_cannot_be_swept_is_refused(recipe: RecipeMaker, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(msgspec.to_builtins(recipe("generation")) | {"sweep": fields}, Recipe)


def test_too_many_runs_are_refused_before_the_first(recipe: RecipeMaker) -> None:
    many = SweepTable(learning_rate=tuple(n / 1000 for n in range(1, 66)))
    with pytest.raises(RecipeError, match="sweep: 65 runs, more than the limit of 64"):
        candidates(msgspec.structs.replace(recipe("generation"), sweep=many))
