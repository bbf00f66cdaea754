"""Families are found by model_type, and only the one that is needed is imported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headmix_server.api.state import ENCODERS
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.loading.registry import FAMILIES, load_model
from tests.support.families import FAMILIES as MATRIX

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
        "import sys; from headmix_server.models.loading.registry import FAMILIES, family_of; loaded = lambda: "
        "{m for m in FAMILIES.values() if f'headmix_server.models.families.{m}' in sys.modules}; "
        "assert not loaded(), loaded(); family_of('gpt2'); assert loaded() == {'gpt2'}, loaded()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(FAMILIES) == 8


@pytest.mark.drift
def test_the_page_of_families_names_every_family_and_its_module() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)\.py` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == dict(FAMILIES)


def test_the_api_and_the_models_agree_on_who_generates() -> None:
    assert {name for name, family in MATRIX.items() if not family.causal} == ENCODERS
