"""A recipe trains on every decoder family, giving a verified artifact whose file reproduces its score."""

from pathlib import Path

import msgspec
import pytest

from harness.bases.families import FAMILIES
from headmix_adapters.artifact import verify_artifact
from headmix_adapters.train.prepare import load_material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import score_artifact
from tests.adapters.train.conftest import RecipeMaker

LORA = {"method": "lora", "rank": 2, "sites": ["q", "k", "gate_up", "down"], "layers": [1, 3]}
KERNEL_MIX = {"preset": "lite-qvo", "value_base": "x"}


@pytest.mark.parametrize("task", ["generation", "classification"])
@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.causal and name != "llama"])
def test_a_run_on_the_family_ends_with_an_artifact_that_scores_as_recorded(
    family: str, task: str, recipe: RecipeMaker, data_folder: Path, reporter: Reporter, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    FAMILIES[family].make(folder)
    adapter = LORA if task == "generation" else KERNEL_MIX
    asked = msgspec.structs.replace(recipe(task, adapter=adapter, epochs=2, max_steps=3), base=str(folder))
    material = load_material(asked, data_folder)
    result = train_adapter(material, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    artifact = verify_artifact(result.artifact, base=material.base.shape)
    assert artifact.config.base.model_type == family
    assert artifact.config.training["metrics"]["adapter"] == score_artifact(material, result.artifact).scores
    assert result.base is not None
    assert result.adapter.scores.keys() - {"loss"} == result.base.scores.keys()
