"""Loads a task: its base, its three splits, and what is the same for all its runs and computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

from transformers import PreTrainedModel

from benchmarks.method.methods import Budget, parameters_of
from benchmarks.method.splits import Splits, split
from benchmarks.method.tasks import EXAMPLES, Task
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import SplitBackbone, split_backbone
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.data.prefix import with_prefix_states
from headmix_adapters.train.prepare import Material, load_material, load_model, precision

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Base:
    """A task's base in one precision, and its layers divided below the lowest adapted one where that is possible."""

    model: PreTrainedModel
    divided: SplitBackbone | None

    def with_states(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples with the states that enter the lowest adapted layer, if the layers are divided."""
        if self.divided is None:
            return list(examples)
        return with_prefix_states(examples, self.divided, self.model.device, _BATCH)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A loaded task.

    `plain` are the splits' examples, `splits` the same examples with states computed in advance: those to train on by
    the base for training, those to score by the base for scoring. `beginnings` counts the tokens of each test answer's
    beginning.
    """

    task: Task
    material: Material
    training: Base
    scoring: Base
    plain: Splits
    splits: Splits
    beginnings: list[int] | None

    def parameters(self, budget: Budget) -> dict[str, int]:
        """Return every method's number of adapter parameters."""
        return parameters_of(self.task.base, budget, self.material.base.shape, self.material.layers)


def prepare(task: Task) -> Prepared:
    """Load a task."""
    material = load_material(task.load_recipe(), EXAMPLES)
    tokenizer = material.text.tokenizer
    texts = [text_of(example, tokenizer) for example in material.train.examples]
    plain = split(task, material.train.examples, material.eval.examples, texts)
    beginnings = None if task.until is None else [_beginning(one, tokenizer, task.until) for one in plain.test]
    scoring = training = _divided(material.model, material.layers)
    if precision(task.precision) != material.model.dtype:
        training = _divided(load_model(material.base, precision(task.precision)), material.layers)
    splits = Splits(
        train=training.with_states(plain.train),
        validation=scoring.with_states(plain.validation),
        test=scoring.with_states(plain.test),
    )
    return Prepared(task, material, training, scoring, plain, splits, beginnings)


def _divided(model: PreTrainedModel, layers: Sequence[int]) -> Base:
    return Base(model, split_backbone(backbone_of(model), layers[0]))


def text_of(example: Example, tokenizer: BaseTokenizer) -> str:
    """Return a text to classify, or an answer."""
    if isinstance(example.labels, list):
        return tokenizer.decode(_answer(example))
    return tokenizer.decode(example.input_ids)


def _answer(example: Example) -> list[int]:
    return [label for label in cast("list[int]", example.labels) if label != IGNORED]


def _beginning(example: Example, tokenizer: BaseTokenizer, until: str) -> int:
    """Return how many tokens of an answer come before the text `until` begins; all of them if it does not occur."""
    ids = _answer(example)
    end = tokenizer.decode(ids).find(until)
    if end < 0:
        return len(ids)
    lengths = accumulate(len(tokenizer.decode([token])) for token in ids)
    return sum(length <= end for length in lengths)
