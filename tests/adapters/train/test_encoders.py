"""Encoder bases are trained and scored as classifiers, and refused as generators."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.adapters.artifacts import classifier_config
from harness.bases.families import FAMILIES
from headmix_adapters.artifact import verify_artifact
from headmix_adapters.base import BaseError
from headmix_adapters.inject import load_adapter
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.recipe.recipe import Recipe
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.prototypes import evaluate_prototypes
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import score_base
from tests.adapters.train.conftest import RecipeMaker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param].make(made)
    return made


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Texts of words the tiny tokenizers know, where one word decides the label; some are also held-out texts."""
    ends = ("", " stops here", " jumps over the river", " and the quick dog", ", a lazy one", " here, there")
    labels = {"fox": "up", "dog": "down"}
    rows = [{"text": f"The {animal}{end}.", "label": label} for end in ends for animal, label in labels.items()]
    (tmp_path / "classification.train.jsonl").write_text("\n".join(json.dumps(row) for row in rows * 3))
    (tmp_path / "classification.eval.jsonl").write_text("\n".join(json.dumps(row) for row in rows[:4]))
    return tmp_path


@pytest.fixture
def recipe(recipe: RecipeMaker) -> RecipeMaker:
    """Make recipes for no more tokens than the tiny encoders have positions."""

    def make(task: str, **changes: Any) -> Recipe:
        made = recipe(task, **changes)
        return msgspec.structs.replace(made, data=msgspec.structs.replace(made.data, max_length=100))

    return make


@pytest.fixture
def encoder_material(folder: Path, recipe: RecipeMaker, animals: Path) -> Callable[..., Material]:
    """Return a function that loads a classification recipe for the encoder; `classifier` changes its table."""

    def load(classifier: dict[str, Any], **training: Any) -> Material:
        made = recipe("classification", adapter={"preset": "roberta-nlu"}, **training)
        assert made.classifier is not None
        changed = msgspec.structs.replace(made.classifier, **classifier)
        return load_material(msgspec.structs.replace(made, base=str(folder), classifier=changed), animals)

    return load


@pytest.mark.parametrize(("pooling", "kind"), [("cls", "mlp-tanh"), ("mean", "linear"), ("last", "linear")])
def test_a_classifier_on_an_encoder_learns_and_its_file_gives_the_recorded_score(
    encoder_material: Callable[..., Material], reporter: Reporter, tmp_path: Path, pooling: str, kind: str
) -> None:
    material = encoder_material({"pooling": pooling, "kind": kind}, epochs=10, learning_rate=0.01)
    result = train_adapter(material, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.adapter.scores["accuracy"] == 1.0
    assert result.base is not None
    artifact = verify_artifact(result.artifact, base=material.base.shape)
    assert artifact.config.training["metrics"]["base"] == result.base.scores
    loaded = load_adapter(material.model, result.artifact)
    ids = torch.tensor([material.eval.examples[0].input_ids], device=material.model.device)
    assert loaded(input_ids=ids).logits.argmax() == material.eval.examples[0].labels
    loaded.adapter.detach()


def test_an_encoder_is_refused_for_generation(folder: Path, recipe: RecipeMaker, data_folder: Path) -> None:
    asked: Recipe = msgspec.structs.replace(recipe("generation"), base=str(folder))
    with pytest.raises(RecipeError, match="is an encoder"):
        load_material(asked, data_folder)


def test_a_text_that_is_cut_keeps_the_mark_behind_it(encoder_material: Callable[..., Material]) -> None:
    whole = encoder_material({}).train
    longest = max(whole.examples, key=lambda example: len(example.input_ids))
    material = encoder_material({})
    table = msgspec.structs.replace(material.recipe.data, max_length=5)
    cut = load_material(msgspec.structs.replace(material.recipe, data=table), material.files["train"].parent).train
    shortened = cut.examples[whole.examples.index(longest)]
    assert shortened.input_ids == [*longest.input_ids[:4], longest.input_ids[-1]]
    assert cut.truncated > 0


def test_the_bases_own_answer_is_the_label_with_the_nearest_training_texts(
    encoder_material: Callable[..., Material],
) -> None:
    material = encoder_material({})

    def embedding(example: Example) -> torch.Tensor:
        with torch.no_grad():
            ids = torch.tensor([example.input_ids], device=material.model.device)
            states = material.model(input_ids=ids).last_hidden_state[0]
        mean = states.mean(dim=0)
        return torch.as_tensor(mean / mean.norm())

    prototypes = [
        torch.stack([embedding(example) for example in material.train.examples if example.labels == label]).mean(dim=0)
        for label in (0, 1)
    ]
    right = 0
    for example in material.eval.examples:
        cosines = [torch.cosine_similarity(embedding(example), prototype, dim=0) for prototype in prototypes]
        right += int(torch.stack(cosines).argmax()) == example.labels
    alone = score_base(material)
    assert alone is not None
    assert alone.scores["accuracy"] == pytest.approx(right / len(material.eval.examples))


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_prototypes_are_not_defined_for_several_labels_or_numbers(
    encoder_material: Callable[..., Material], problem: str
) -> None:
    material = encoder_material({})
    examples = material.eval.examples
    assert evaluate_prototypes(material.model, classifier_config(problem=problem), examples, examples, 4) is None


@pytest.mark.parametrize(
    ("problem", "labels", "rows", "score"),
    [
        ("multi_label", ["a", "b"], [{"text": "rise", "labels": ["a"]}, {"text": "fall", "labels": ["a", "b"]}], 0.99),
        ("regression", ["value"], [{"text": "rise", "label": 0.8}, {"text": "fall", "label": -0.8}], 0.2),
    ],
)
def test_several_labels_and_numbers_are_learned_from_files(
    folder: Path,
    recipe: RecipeMaker,
    reporter: Reporter,
    tmp_path: Path,
    problem: str,
    labels: list[str],
    rows: list[dict[str, Any]],
    score: float,
) -> None:
    for split in ("train", "eval"):
        lines = [json.dumps(row) for row in rows * 8]
        (tmp_path / f"classification.{split}.jsonl").write_text("\n".join(lines))
    made = recipe("classification", adapter={"preset": "roberta-nlu"}, epochs=12)
    classifier = classifier_config(*labels, pooling="mean", problem=problem)
    material = load_material(msgspec.structs.replace(made, base=str(folder), classifier=classifier), tmp_path)
    result = train_adapter(material, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.base is None
    if problem == "regression":
        assert result.adapter.scores["mean_squared_error"] < score
    else:
        assert result.adapter.scores["accuracy"] > score


def test_a_base_that_lacks_weights_is_refused_instead_of_filled_with_random_ones(
    folder: Path, recipe: RecipeMaker, data_folder: Path, tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    asked = msgspec.structs.replace(recipe("classification"), base=str(tmp_path))
    with pytest.raises(BaseError, match=r"lacks weights: .*encoder\.layer\.1\.output\.dense\.weight"):
        load_material(asked, data_folder)
