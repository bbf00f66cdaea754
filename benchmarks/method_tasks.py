"""What the method benchmark compares: the tasks, their data, and the contenders of each with their budgets.

Owns these choices; `method` runs them. The numbers of adapter parameters of a task's contenders are within five percent
of each other; the classification head, the same for all, is not counted.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_adapters.sites import num_parameters
from headmix_adapters.train.adapter_spec import adapted_layers, adapter_config
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.recipe.recipe import AdapterTable, Recipe, load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One task: the example recipe that it starts from, how much of its data it uses, and the contenders.

    `measured` names the held-out score. `spare` training texts that no contender trains on are added to the held-out
    file, so that differences of a percent are visible. Every contender is trained at each of `rates`.
    """

    recipe: str
    measured: str
    train: int
    held_out: int
    spare: int
    epochs: int
    batch_size: int
    rates: tuple[float, ...]
    contenders: Mapping[str, AdapterTable]


CATEGORY = Comparison(
    recipe="minilm-category",
    measured="accuracy",
    train=600,
    held_out=280,
    spare=400,
    epochs=2,
    batch_size=16,
    rates=(1e-3, 3e-3, 1e-2),
    contenders=MappingProxyType(
        {
            "Kernel-mix": AdapterTable(preset="roberta-nlu"),
            "Kernel-mix lite": AdapterTable(preset="lite-qv", rank_q=4, rank_v=6),
            "LoRA": AdapterTable(method="lora", rank=11, sites=("q", "v", "o")),
        }
    ),
)
UPPER = (24, 30)
KINGJAMES = Comparison(
    recipe="kingjames",
    measured="answer_nll",
    train=256,
    held_out=100,
    spare=0,
    epochs=1,
    batch_size=8,
    rates=(1.25e-3,),
    contenders=MappingProxyType(
        {
            "Kernel-mix": AdapterTable(preset="gpt2-nlg", layers=UPPER),
            "Kernel-mix lite": AdapterTable(preset="lite-qvo", rank_q=8, rank_v=8, layers=UPPER),
            "LoRA": AdapterTable(method="lora", rank=32, sites=("q", "v", "o"), layers=UPPER),
        }
    ),
)
COMPARISONS: Mapping[str, Comparison] = MappingProxyType({task.recipe: task for task in (CATEGORY, KINGJAMES)})


def starting_recipe(task: Comparison) -> Recipe:
    """Return the example's recipe with the comparison's epochs and batches."""
    recipe = load_recipe(EXAMPLES / f"{task.recipe}.toml")
    training = msgspec.structs.replace(recipe.training, epochs=task.epochs, batch_size=task.batch_size)
    return msgspec.structs.replace(recipe, training=training)


def contender(task: Comparison, name: str, base: BaseShape) -> tuple[AdapterConfig, tuple[int, ...]]:
    """Return a contender's config and layers on a base."""
    recipe = msgspec.structs.replace(starting_recipe(task), adapter=task.contenders[name])
    return adapter_config(recipe, base), adapted_layers(recipe, base)


def budgets(task: Comparison, base: BaseShape) -> dict[str, int]:
    """Return every contender's number of adapter parameters, without the classification head.

    Raises:
        ValueError: they are not within five percent of each other.
    """
    found = {}
    for name in task.contenders:
        config, layers = contender(task, name, base)
        found[name] = num_parameters(msgspec.structs.replace(config, classifier=None), layers)
    if max(found.values()) > (1 + TOLERANCE) * min(found.values()):
        raise ValueError(f"{task.recipe}: budgets differ by more than five percent: {found}")
    return found


def choose(
    task: Comparison, train: Sequence[Example], held_out: Sequence[Example]
) -> tuple[list[Example], list[Example]]:
    """Return the training and held-out examples of a comparison, the same for every contender and seed."""
    order = random.Random(0).sample(train, task.train + task.spare)
    return order[: task.train], [*held_out[: task.held_out], *order[task.train :]]
