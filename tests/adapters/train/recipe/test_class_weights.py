"""Weights of labels: balanced ones make every label count the same, and impossible ones are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.artifacts import classifier_config
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.inject.classifier import problem_loss
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.recipe.class_weights import class_weights
from headmix_adapters.train.recipe.recipe import load_recipe
from headmix_adapters.train.recipe.recipe_file import recipe_text
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter
from tests.adapters.train.conftest import RecipeMaker


def test_balanced_weights_make_every_label_count_the_same() -> None:
    classifier = classifier_config("a", "b", "c")
    labels = [0, 0, 0, 1]
    weights = class_weights("balanced", classifier, labels)
    assert weights == [pytest.approx(2 / 3), 2.0, 1.0]
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))


def test_given_weights_have_a_mean_of_1_over_the_training_texts() -> None:
    labels = [0, 0, 0, 1]
    weights = class_weights({"b": 3.0}, classifier_config("a", "b", "c"), labels)
    assert weights == pytest.approx([2 / 3, 2.0, 2 / 3])
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))


def test_a_texts_loss_counts_by_its_labels_weight_whatever_else_is_in_the_batch() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.5, 1.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
    each = [float(problem_loss("single_label", logits[n : n + 1], labels[n : n + 1])) for n in range(3)]
    weighted = float(problem_loss("single_label", logits, labels, weights=torch.tensor([1.0, 4.0])))
    assert weighted == pytest.approx((each[0] + each[1] + 4 * each[2]) / 3)
    alone = float(problem_loss("single_label", logits[2:], labels[2:], weights=torch.tensor([1.0, 4.0])))
    assert alone == pytest.approx(4 * each[2])


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 1), (1, 4), (4, 1)])
def test_weights_change_what_is_trained_with_any_batch_size(
    batch_size: int, accumulation: int, material: Callable[..., Material], tmp_path: Path, reporter: Reporter
) -> None:
    found = []
    for number, weights in enumerate((None, {"up": 1.0}, {"up": 20.0})):
        asked = {"epochs": 1, "batch_size": batch_size, "gradient_accumulation": accumulation}
        loaded = material("classification", **asked, **({} if weights is None else {"class_weights": weights}))
        path = tmp_path / f"{number}.safetensors"
        train_adapter(loaded, path, resume=False, reporter=reporter)
        found.append(load_tensors(path))
    plain, even, uneven = found
    for name, tensor in plain.items():
        torch.testing.assert_close(even[name], tensor, rtol=1e-3, atol=1e-4)
    assert any(not torch.allclose(uneven[name], tensor, rtol=1e-2, atol=1e-3) for name, tensor in plain.items())


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
