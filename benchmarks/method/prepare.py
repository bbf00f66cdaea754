"""Loads a task: its base, its three splits, and what is the same for all its runs and computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

from benchmarks.method.methods import Budget, parameters_of
from benchmarks.method.splits import Splits, split
from benchmarks.method.tasks import EXAMPLES, Task
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import SplitBackbone, split_backbone
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.data.prefix import with_prefix_states
from headmix_adapters.train.prepare import Material, load_material

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Prepared:
    """A loaded task.

    `plain` are the splits' examples, `splits` the same examples with the states that enter the lowest adapted layer
    where these can be computed in advance. `beginnings` counts the tokens of each test answer's beginning.
    """

    task: Task
    material: Material
    plain: Splits
    splits: Splits
    backbone: SplitBackbone | None
    beginnings: list[int] | None

    def parameters(self, budget: Budget) -> dict[str, int]:
        """Return every method's number of adapter parameters."""
        return parameters_of(self.task.base, budget, self.material.base.shape, self.material.layers)


def prepare(task: Task) -> Prepared:
    """Load a task."""
    material = load_material(task.load_recipe(), EXAMPLES)
    texts = [text_of(example, material.text.tokenizer) for example in material.train.examples]
    plain = split(task, material.train.examples, material.eval.examples, texts)
    backbone = split_backbone(backbone_of(material.model), material.layers[0])
    tokenizer = material.text.tokenizer
    beginnings = None if task.until is None else [_beginning(one, tokenizer, task.until) for one in plain.test]
    splits = plain if backbone is None else _with_states(plain, backbone, material)
    return Prepared(task, material, plain, splits, backbone, beginnings)


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


def _with_states(plain: Splits, backbone: SplitBackbone, material: Material) -> Splits:
    def computed(examples: Sequence[Example]) -> list[Example]:
        return with_prefix_states(examples, backbone, material.model.device, _BATCH)

    return Splits(computed(plain.train), computed(plain.validation), computed(plain.test))
