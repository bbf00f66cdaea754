"""A recipe's metrics and class weights act in a whole run, and the header has them for adapter and references."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from headmix_adapters.artifact import open_artifact
from headmix_adapters.train.prepare import load_material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.metrics import Metric
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.terminal.progress import readable
from tests.adapters.train.conftest import RecipeMaker


@pytest.mark.parametrize(
    ("task", "metrics", "weights", "references"),
    [
        ("classification", ("mcc", "micro_f1"), "balanced", ("base", "linear_probe")),
        ("generation", ("exact_match", "rouge_l", "chrf"), None, ("base",)),
    ],
)
def test_adapter_base_and_linear_classifier_have_the_scores_that_are_asked_for(
    recipe: RecipeMaker,
    data_folder: Path,
    tmp_path: Path,
    reporter: Reporter,
    task: str,
    metrics: tuple[str, ...],
    weights: str | None,
    references: tuple[str, ...],
) -> None:
    made = msgspec.structs.replace(recipe(task, epochs=1, class_weights=weights), metrics=metrics)
    path = tmp_path / "a.safetensors"
    train_adapter(load_material(made, data_folder), path, resume=False, reporter=reporter)
    recorded = open_artifact(path).config.training["metrics"]
    for whose in ("adapter", *references):
        assert set(metrics) < recorded[whose].keys()


def test_every_metric_has_a_name_for_people() -> None:
    plain = {"pearson", "spearman"}
    assert not [name for name in get_args(Metric) if readable(name) == name and name not in plain]
