"""The linear classifier on the frozen base learns what its states contain, for each kind of problem, and no more."""

from collections.abc import Callable

import msgspec
import pytest
import torch

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe

MaterialMaker = Callable[..., Material]


def changed(material: Material, classifier: ClassifierConfig, relabel: Callable[[Example], object]) -> Material:
    """The same texts with other labels."""
    from dataclasses import replace

    parts = {
        name: replace(
            part,
            examples=[replace(example, labels=relabel(example)) for example in part.examples],  # type: ignore[arg-type]
        )
        for name, part in (("train", material.train), ("eval", material.eval))
    }
    recipe = msgspec.structs.replace(material.recipe, classifier=classifier)
    return replace(material, recipe=recipe, train=parts["train"], eval=parts["eval"])


def test_it_reads_the_direction_of_the_last_word(material: MaterialMaker) -> None:
    probe = evaluate_linear_probe(material("classification"))
    assert probe is not None
    assert probe.scores["accuracy"] == 1.0
    assert probe.label_f1.keys() == {"up", "down"}
    assert "loss" not in probe.scores


def test_it_takes_sets_of_labels_and_numbers_too(material: MaterialMaker) -> None:
    loaded = material("classification")
    head = loaded.recipe.classifier
    assert head is not None
    several = msgspec.structs.replace(head, problem="multi_label")
    probe = evaluate_linear_probe(
        changed(loaded, several, lambda example: (float(example.labels == 0), float(example.labels == 1)))
    )
    assert probe is not None
    assert probe.scores["accuracy"] == 1.0
    number = msgspec.structs.replace(head, problem="regression", labels=("value",))
    probe = evaluate_linear_probe(changed(loaded, number, lambda example: (float(example.labels == 1),)))
    assert probe is not None
    assert probe.scores["mean_squared_error"] < 0.2


def test_generation_has_none_and_one_text_of_one_label_is_no_trap(material: MaterialMaker) -> None:
    assert evaluate_linear_probe(material("generation")) is None
    from dataclasses import replace

    loaded = material("classification")
    alone = replace(loaded, train=replace(loaded.train, examples=loaded.train.examples[:1]))
    probe = evaluate_linear_probe(alone)
    assert probe is not None
    assert 0 <= probe.scores["accuracy"] <= 1


@pytest.mark.parametrize("seed", [0, 1])
def test_it_does_not_hang_on_what_was_drawn_before(material: MaterialMaker, seed: int) -> None:
    torch.manual_seed(seed)
    probe = evaluate_linear_probe(material("classification"))
    assert probe is not None
    assert probe.scores == {"accuracy": 1.0, "macro_f1": 1.0}
