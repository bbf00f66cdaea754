"""A base says how many tokens it can read, and training never asks it for more."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from harness.bases.families import FAMILIES
from headmix_adapters.base import BaseError, base_positions, resolve_base
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.prepare import load_material, load_model
from headmix_adapters.train.recipe.quick_recipe import Wishes, quick_recipe
from headmix_adapters.train.recipe.recipe import DataTable, Recipe


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_base_reads_as_many_tokens_as_it_has_positions_and_no_more(family: str, tmp_path: Path) -> None:
    FAMILIES[family].make(tmp_path)
    base = resolve_base(str(tmp_path))
    positions = base_positions(base)
    assert positions is not None
    model = load_model(base, torch.float32)
    with torch.no_grad():
        model(input_ids=torch.full((1, positions), 7))
        if family in ("gpt2", "bert", "roberta"):
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, positions + 1), 7))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_recipe_for_more_tokens_than_positions_is_refused_by_name(family: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    FAMILIES[family].make(tmp_path / "base")
    rows = [{"text": "the fox " * 300, "label": label} for label in ("up", "down")]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wishes = Wishes(
        "n",
        str(tmp_path / "base"),
        "d.jsonl",
        "d.jsonl",
        "classification",
        labels=("up", "down"),
        problem="single_label",
    )
    positions = base_positions(resolve_base(wishes.base))
    fields = msgspec.to_builtins(quick_recipe(wishes, ()))
    with pytest.raises(RecipeError, match=rf"data.max_length is 512, but base has {positions} positions: set it to"):
        load_material(msgspec.convert(fields, Recipe), tmp_path)
    fields["data"]["max_length"] = positions
    material = load_material(msgspec.convert(fields, Recipe), tmp_path)
    assert {len(example.input_ids) for example in material.train.examples} == {positions}


@pytest.mark.parametrize(("positions", "expected"), [(100, 100), (512, 512), (4096, 512), (None, 512)])
def test_the_default_length_is_no_more_than_the_bases_positions(positions: int | None, expected: int) -> None:
    made = quick_recipe(Wishes("n", "b", "d.jsonl", task="generation", positions=positions), ())
    assert made.data.max_length == expected
    assert DataTable(train="").max_length == 512


def test_a_config_that_says_nothing_sets_no_limit_and_one_without_room_is_refused(tmp_path: Path) -> None:
    FAMILIES["roberta"].make(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    base = resolve_base(str(tmp_path))
    path.write_text(json.dumps(config | {"max_position_embeddings": None}))
    assert base_positions(base) is None
    path.write_text(json.dumps(config | {"max_position_embeddings": 2}))
    with pytest.raises(BaseError, match="leaves no position for a token"):
        base_positions(base)
