"""A written recipe reads back the same, and looks as a person would have written it."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.base import BaseError
from headmix_adapters.config import ExamplePrompt
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import RecipeError, TargetError, TrainError
from headmix_adapters.train.recipe.quick_recipe import Wishes, quick_recipe
from headmix_adapters.train.recipe.recipe import Recipe, load_recipe
from headmix_adapters.train.recipe.recipe_file import recipe_text, write_recipe

EXAMPLES = Path(__file__).parents[4] / "examples"
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LABELS = WORDS.map(str.strip).filter(bool)


def rows(*fields: dict[str, object]) -> list[Row]:
    return [Row(f"d.jsonl:{number}", row) for number, row in enumerate(fields, start=1)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_recipe_survives_being_written(path: Path, tmp_path: Path) -> None:
    recipe, written = load_recipe(path), tmp_path / "again.toml"
    write_recipe(written, recipe, force=False)
    assert load_recipe(written) == recipe
    with pytest.raises(TargetError, match=r"again\.toml exists; --force replaces it"):
        write_recipe(written, recipe, force=False)
    write_recipe(written, recipe, force=True)


def test_the_tools_of_an_example_survive_being_written(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"required": [], "minimum": 0.5, "x": True}}}
    example = ExamplePrompt(prompt="x", chat=True, tools=(tool,))
    recipe = msgspec.structs.replace(load_recipe(EXAMPLES / "dictionary.toml"), examples=(example,))
    write_recipe(tmp_path / "again.toml", recipe, force=False)
    assert load_recipe(tmp_path / "again.toml") == recipe


@given(base=WORDS, train=WORDS, labels=st.lists(LABELS, min_size=2, max_size=4), rate=st.floats(1e-9, 1e3))
def test_any_words_survive_being_written(base: str, train: str, labels: list[str], rate: float) -> None:
    fields = msgspec.to_builtins(load_recipe(EXAMPLES / "spam.toml"))
    fields["base"], fields["data"]["train"], fields["classifier"]["labels"] = base, train, labels
    fields["training"]["learning_rate"] = rate
    recipe = msgspec.convert(fields, Recipe)
    assert msgspec.toml.decode(recipe_text(recipe), type=Recipe) == recipe


def test_the_data_says_what_was_not_given(tiny_folder: Path) -> None:
    wishes = Wishes(name="n", base=str(tiny_folder), train="d.jsonl")
    numbers = quick_recipe(wishes, rows(*[dict[str, object](text="x", label=label) for label in (10, 9, "1")]))
    assert numbers.classifier is not None
    assert (numbers.classifier.labels, numbers.classifier.problem) == (("1", "9", "10"), "single_label")
    padded = quick_recipe(
        wishes, rows({"text": "x", "label": " b"}, {"text": "y", "label": "b"}, {"text": "z", "label": "a"})
    )
    assert padded.classifier is not None
    assert padded.classifier.labels == ("a", "b")
    with pytest.raises(RecipeError, match=r"classifier\.labels: label ' b' begins or ends with a blank"):
        quick_recipe(replace(wishes, labels=("a", " b")), rows({"text": "x", "label": "b"}))
    several = quick_recipe(wishes, rows({"text": "x", "labels": ["b", "a"]}, {"text": "y", "labels": "c|a"}))
    assert several.classifier is not None
    assert (several.classifier.labels, several.classifier.problem) == (("a", "b", "c"), "multi_label")
    chat = quick_recipe(wishes, rows({"messages": []}))
    assert (chat.task, chat.adapter.preset, chat.classifier) == ("generation", "gpt2-nlg", None)
    number = quick_recipe(
        replace(wishes, problem="regression"), rows({"text": "x", "label": 0.5}, {"text": "y", "label": "2"})
    )
    assert number.classifier is not None
    assert number.classifier.labels == ("value",)


@pytest.mark.parametrize(
    ("changes", "row", "message"),
    [
        ({}, {"review": "x", "stars": 3}, r"d\.jsonl:1: a row has text and label, messages, or prompt.*review, stars"),
        ({}, {"text": "x", "label": 0.5}, r"d\.jsonl:1: label is 0\.5, neither a text nor a whole number"),
        ({"labels": ("a", "b")}, {"prompt": "x", "completion": "y"}, "--labels is for classification"),
        ({"name": "../x"}, {"prompt": "x", "completion": "y"}, r"\$\.name"),
        ({"base": "/no/such"}, {"text": "x", "label": "a"}, "no base /no/such"),
    ],
)
def test_what_the_data_does_not_say_is_asked_for(
    tiny_folder: Path, changes: dict[str, object], row: dict[str, object], message: str
) -> None:
    wishes = Wishes(**{"name": "n", "base": str(tiny_folder), "train": "d.jsonl"} | changes)  # type: ignore[arg-type]
    with pytest.raises((TrainError, BaseError), match=message):
        quick_recipe(wishes, rows(row))
