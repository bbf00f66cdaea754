"""A recipe made from the command line and a look at the data, for users who have not written one.

Owns the defaults for what was not given: those of the example recipes. `recipe` defines what the keys mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headmix_adapters.base import BaseError, resolve_base
from headmix_adapters.config import Pooling, Problem, Task
from headmix_adapters.families import UnknownFamilyError, family_of, usual_pooling
from headmix_adapters.presets import PresetName
from headmix_adapters.train.data.forms.label_chats import LabelChats
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.forms.task import problem_of, task_of
from headmix_adapters.train.data.labels import in_order, label_fields, label_names
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.recipe.recipe import DataTable, Recipe

EPOCHS, SEED = 3, 7
USUAL_TRAINING: Mapping[Task, dict[str, Any]] = {
    "classification": {"batch_size": 16, "learning_rate": 2e-3},
    "generation": {"batch_size": 8, "learning_rate": 1.25e-3},
}
_PRESETS: Mapping[Task, PresetName] = {"classification": "roberta-nlu", "generation": "gpt2-nlg"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user gave on the command line; `training` are keys of the recipe's `[training]`. None means not given.

    `train` and `eval` are the data files, named as they should appear in the recipe. `positions` are the base's: the
    default of `max_length` is no larger.
    """

    name: str
    base: str
    train: str
    eval: str | None = None
    task: Task | None = None
    preset: PresetName | None = None
    labels: tuple[str, ...] = ()
    problem: Problem | None = None
    pooling: Pooling | None = None
    max_length: int | None = None
    positions: int | None = None
    ignore: tuple[str, ...] = ()
    training: Mapping[str, float | int] | None = None


def quick_recipe(wishes: Wishes, rows: Sequence[Row]) -> Recipe:
    """Return a recipe for the rows of the training file.

    Raises:
        RecipeError: a value is invalid, or the rows do not show what is missing.
        DataError: an invalid label; file and line are named.
        BaseError: no such base.
    """
    rows = [in_openai_form(row, wishes.ignore) for row in rows]
    task = wishes.task or task_of(rows[0])
    given = dict(wishes.training or {})
    fields: dict[str, Any] = {
        "name": wishes.name,
        "base": wishes.base,
        "task": task,
        "adapter": {"preset": wishes.preset or _PRESETS[task]},
        "data": {"train": wishes.train, "ignore": list(wishes.ignore)},
        "training": {"epochs": EPOCHS, "seed": SEED} | USUAL_TRAINING[task] | given,
    }
    fields["data"] |= {} if wishes.eval is None else {"eval": wishes.eval}
    longest = wishes.max_length or _usual_length(wishes.positions)
    fields["data"] |= {} if longest is None else {"max_length": longest}
    if task == "classification":
        fields["classifier"] = _classifier(wishes, rows)
    elif given_for_labels := [name for name in ("labels", "problem", "pooling") if getattr(wishes, name)]:
        raise RecipeError(f"--{given_for_labels[0]} is for classification, and the task is generation")
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(str(error)) from error


def _usual_length(positions: int | None) -> int | None:
    """Return the positions of a base that has fewer than a recipe's default needs."""
    return positions if positions is not None and positions < DataTable(train="").max_length else None


def _classifier(wishes: Wishes, rows: Sequence[Row]) -> dict[str, Any]:
    problem = wishes.problem or problem_of(rows[0])
    chats = LabelChats(problem, wishes.ignore)
    rows = [chats.read(row) for row in rows]
    labels = wishes.labels or (("value",) if problem == "regression" else _labels(rows, problem, wishes.ignore))
    pooling = wishes.pooling or usual_pooling(_generates(wishes.base))
    return {"problem": problem, "labels": list(labels), "pooling": pooling, "kind": "linear"}


def _labels(rows: Sequence[Row], problem: Problem, ignored: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that occur: whole numbers in numerical order, others in alphabetical order."""
    found = {name for row in rows for name in label_names(label_fields(row, problem, ignored), problem)}
    return in_order(found)


def _generates(name: str) -> bool:
    base = resolve_base(name)
    try:
        return family_of(base.shape.model_type).generates
    except UnknownFamilyError as error:
        raise BaseError(f"{base.name}: {error}") from error
