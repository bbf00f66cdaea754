"""The tasks: an example's base and data, how many texts each split has, and the learning rates tried.

Every method of a task sees the same texts in the same order of batches, with the same number of steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import msgspec

from headmix_adapters.train.recipe.recipe import AdapterTable, Recipe, load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
PLAIN_TEMPLATE = Path(__file__).parent / "plain.jinja"

RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
"""The learning rates tried, the same for every method. A task adds those beyond an edge that a method chose."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    `measured` is the score that chooses the learning rate and is tested; `train` and `validation` count texts of the
    example's training file, and the test split is its whole held-out file and `spare` more texts of the training file.
    `apart`: near-duplicates exist in the training file, so texts that share six consecutive words with a validation
    text are not trained on. `until`: the part of an answer that is also scored on its own ends before this text.
    """

    name: str
    recipe: str
    base: str
    measured: str
    train: int
    validation: int
    spare: int
    epochs: int
    batch_size: int
    expected_seconds: float
    rates: tuple[float, ...] = RATES
    layers: tuple[int, int] | None = None
    apart: bool = False
    until: str | None = None
    chat_template: str | None = None
    optional: bool = False

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return self.measured != "loss per token"

    @property
    def classifies(self) -> bool:
        """Whether it is a classification task."""
        return self.measured == "accuracy"

    def load_recipe(self) -> Recipe:
        """Return the example's recipe with this task's base, layers, epochs and batches, without label smoothing.

        Its preset is only a placeholder: every method brings its own parts.
        """
        recipe = load_recipe(EXAMPLES / f"{self.recipe}.toml")
        training = msgspec.structs.replace(
            recipe.training,
            epochs=self.epochs,
            batch_size=self.batch_size,
            label_smoothing=0.0,
            dropout=0.1,
            warmup_ratio=0.06,
            precision="float32",
        )
        return msgspec.structs.replace(
            recipe,
            base=self.base,
            adapter=AdapterTable(preset="roberta-nlu", layers=self.layers),
            training=training,
            chat_template=self.chat_template,
            examples=(),
        )


CATEGORY = Task(
    name="category",
    recipe="minilm-category",
    base="minilm-l6",
    measured="accuracy",
    train=320,
    validation=320,
    spare=400,
    epochs=3,
    batch_size=16,
    expected_seconds=20,
)
SPAM = Task(
    name="spam",
    recipe="minilm-spam",
    base="minilm-l6",
    measured="accuracy",
    train=320,
    validation=240,
    spare=0,
    epochs=3,
    batch_size=16,
    expected_seconds=25,
    rates=(5e-4, *RATES),
    apart=True,
)
KINGJAMES = Task(
    name="kingjames",
    recipe="kingjames",
    base="smollm2-135m-instruct",
    measured="loss per token",
    train=480,
    validation=120,
    spare=0,
    epochs=1,
    batch_size=8,
    expected_seconds=80,
    rates=(*RATES, 3.2e-2),
    layers=(20, 30),
    apart=True,
)
DICTIONARY = Task(
    name="dictionary",
    recipe="dictionary",
    base="smollm2-135m-instruct",
    measured="loss per token",
    train=480,
    validation=120,
    spare=0,
    epochs=1,
    batch_size=8,
    expected_seconds=80,
    rates=(*RATES, 3.2e-2),
    layers=(20, 30),
    until='", "is_a"',
)


def _on_gemma(task: Task) -> Task:
    return replace(
        task,
        name=f"{task.name}-gemma",
        base="gemma3-270m",
        layers=(12, 18),
        chat_template=str(PLAIN_TEMPLATE),
        expected_seconds=200.0,
        rates=(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
        optional=True,
    )


TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in (CATEGORY, SPAM, KINGJAMES, DICTIONARY, _on_gemma(KINGJAMES), _on_gemma(DICTIONARY))}
)
