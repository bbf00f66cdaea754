"""Families are found by model_type, and only the one that is needed is imported."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.bases.families import FAMILIES as MATRIX
from headmix_adapters.base.folder import read_base_shape
from headmix_adapters.families import FAMILIES
from headmix_server import models
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.loading.registry import SERVED, load_model

FOLDER = Path(models.__file__).parent / "families"
PAGE = Path(__file__).parents[4] / "docs" / "families.md"


@pytest.mark.parametrize("model_type", ["mamba", "..llama", None])
def test_an_unknown_family_is_refused_by_name(tmp_path: Path, model_type: str | None) -> None:
    (tmp_path / "config.json").write_text("{}" if model_type is None else f'{{"model_type": "{model_type}"}}')
    with pytest.raises(
        UnsupportedModelError, match=f"model_type '?{model_type}'? is not served; served are: bert, gemma3"
    ):
        load_model(tmp_path, torch.float32)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsupportedModelError, match=r"config\.json"):
        load_model(tmp_path, torch.float32)


def test_a_family_is_imported_when_one_of_its_bases_is_loaded() -> None:
    code = (
        "import sys; from headmix_server.models.loading.registry import SERVED, family_module; loaded = lambda: "
        "{m for m in SERVED if f'headmix_server.models.families.{m}' in sys.modules}; "
        "assert not loaded(), loaded(); family_module('gpt2'); assert loaded() == {'gpt2'}, loaded()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.drift
def test_the_page_of_families_names_every_family_and_its_module() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)\.py` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {model_type: model_type for model_type in SERVED}


def test_every_served_row_of_the_table_has_a_module_of_its_name_and_a_row_of_the_test_matrix() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py") if "def load(" in path.read_text(encoding="utf-8")}
    assert modules == set(SERVED) == MATRIX.keys()


@pytest.mark.parametrize("model_type", MATRIX)
def test_the_table_agrees_with_what_transformers_makes_of_a_family(tmp_path: Path, model_type: str) -> None:
    row, tiny = FAMILIES[model_type], MATRIX[model_type]
    model = tiny.make(tmp_path)
    names = [name for name, _ in model.named_parameters()]
    assert row.generates == tiny.causal
    assert row.rotary == any("rotary" in name for name, _ in model.named_modules())
    assert row.transposed == any(type(module).__name__ == "Conv1D" for module in model.modules())
    assert row.gated_mlp == any(".mlp.gate_proj." in name for name in names)
    assert read_base_shape("tiny", tmp_path).gated_mlp == row.gated_mlp
    assert model.base_model_prefix == row.prefix.removesuffix(".")


def test_facts_about_families_stand_in_the_table_alone() -> None:
    """No other module of the product distinguishes families by the name of their model type."""
    elsewhere = [
        path.name
        for root in ("adapters", "server", "client")
        for path in (PAGE.parents[1] / root).rglob("*.py")
        if path.name != "families.py" and path.parent != FOLDER
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in FAMILIES
    ]
    assert elsewhere == []
