"""A tiny base, data files a few dozen lines long, and recipes for them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from harness.bases.tiny_model import make_tiny_llama
from headmix_adapters.text.base_text import BaseText, read_base_text
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.recipe.recipe import Recipe
from headmix_adapters.train.scoring.report import Reporter

RecipeMaker = Callable[..., Recipe]

ADAPTER = {"preset": "lite-qv", "rank_q_shared": 2, "layers": [1, 3]}
TRAINING = {"epochs": 3, "batch_size": 4, "learning_rate": 0.02, "seed": 3}
CLASSIFIER = {"pooling": "last", "kind": "linear", "labels": ["up", "down"]}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_llama(folder)
    return folder


@pytest.fixture(scope="session")
def base_text(tiny_folder: Path) -> BaseText:
    return read_base_text(tiny_folder)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classification: the label is a word's direction. Generation: the answer is always the same."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    words = {"up": ["rise", "climb", "lift"], "down": ["fall", "sink", "drop"]}
    for split, count in (("train", 30), ("eval", 12)):
        labels = [rng.choice(["up", "down"]) for _ in range(count)]
        classification = [
            {"text": "the fox " * rng.randrange(4) + rng.choice(words[label]), "label": label} for label in labels
        ]
        generation = [
            {"messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "a lazy dog"}]}
            for row in classification
        ]
        for task, rows in (("classification", classification), ("generation", generation)):
            (folder / f"{task}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def recipe(tiny_folder: Path) -> RecipeMaker:
    """Return a function that makes a recipe for one of the two tasks; keyword arguments change its tables."""

    def make(task: str, *, adapter: dict[str, Any] | None = None, **training: Any) -> Recipe:
        fields: dict[str, Any] = {
            "name": f"tiny-{task}",
            "base": str(tiny_folder),
            "task": task,
            "adapter": adapter or ADAPTER,
            "data": {"train": f"{task}.train.jsonl", "eval": f"{task}.eval.jsonl", "max_length": 160},
            "training": TRAINING | training,
        }
        return msgspec.convert(fields | ({"classifier": CLASSIFIER} if task == "classification" else {}), Recipe)

    return make


@pytest.fixture
def material(recipe: RecipeMaker, data_folder: Path) -> Callable[..., Material]:
    """Return a function that loads the base and data of such a recipe."""
    return lambda task, **changes: load_material(recipe(task, **changes), data_folder)


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(Console(quiet=True))
