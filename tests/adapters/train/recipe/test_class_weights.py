"""Weights of labels: balanced ones make every label count the same, and impossible ones are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.artifacts import classifier_config
from headmix_adapters.inject.classifier import problem_loss
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.class_weights import class_weights
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.recipe.recipe_file import recipe_text
from tests.adapters.train.conftest import RecipeMaker


def test_balanced_weights_make_every_label_count_the_same() -> None:
    classifier = classifier_config("a", "b", "c")
    labels = [0, 0, 0, 1]
    weights = class_weights("balanced", classifier, labels)
    assert weights == [pytest.approx(2 / 3), 2.0, 1.0]
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))
    assert class_weights({"b": 3.0}, classifier, labels) == [1.0, 3.0, 1.0]


def test_the_loss_is_a_weighted_mean() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.5, 1.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
    each = [float(problem_loss("single_label", logits[n : n + 1], labels[n : n + 1])) for n in range(3)]
    weighted = float(problem_loss("single_label", logits, labels, weights=torch.tensor([1.0, 4.0])))
    assert weighted == pytest.approx((each[0] + each[1] + 4 * each[2]) / 6)


@pytest.mark.parametrize("value", ["balanced", {"up": 2.0, "down": 0.5}])
def test_a_recipe_keeps_its_weights(recipe: RecipeMaker, tmp_path: Path, value: object) -> None:
    made = recipe("classification", class_weights=value)
    path = tmp_path / "r.toml"
    path.write_text(recipe_text(made))
    assert load_recipe(path) == made


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("generation", '[training]\nclass_weights = "balanced"', "class_weights is for classification with one label"),
        ("classification", "[training]\nclass_weights = {sideways = 2}", "'sideways' is not among classifier.labels"),
        ("classification", "[training]\nclass_weights = {up = 0}", "class_weights"),
        ("classification", 'metrics = ["bleu"]', "bleu is not defined for single_label, which has micro_f1"),
        ("generation", 'metrics = ["mcc"]', "mcc is not defined for generation, which has exact_match"),
        ("classification", 'metrics = ["mmc"]', "it must be one of .*mcc"),
        ("generation", 'metrics = ["rouge_l"]\nadded_tokens = ["<x>"]', "not defined for a recipe with added_tokens"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(
    recipe: RecipeMaker, tmp_path: Path, task: str, line: str, message: str
) -> None:
    text, path = recipe_text(recipe(task)), tmp_path / "r.toml"
    table, _, key = line.rpartition("\n") if line.startswith("[") else ("", "", line)
    path.write_text(text.replace(table, line, 1) if table else f"{key}\n{text}")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_bleu_without_its_package_is_refused_before_training(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = lambda _: None  # noqa: E731
    monkeypatch.setattr("headmix_adapters.train.scoring.metrics.find_spec", missing)
    path = tmp_path / "r.toml"
    path.write_text('metrics = ["bleu"]\n' + recipe_text(recipe("generation")))
    with pytest.raises(RecipeError, match=r"bleu and chrf need sacrebleu: pip install 'headmix\[metrics\]'"):
        load_recipe(path)
