"""Batches: which examples go together in which epoch, and how they become padded tensors.

Examples of similar length share a batch, so little is computed on padding. The order depends only on seed and epoch:
a resumed run sees the batches the interrupted one would have seen.
"""

import math
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from headmix_adapters.train.data.examples import IGNORED, Example, Labels

# Examples are sorted within windows of this many batches: enough to group lengths, few enough to stay shuffled.
_WINDOW = 16


class ExampleDataset(Dataset[Example]):
    """A list of examples in the form torch's data loader expects."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


class LengthBatches(Sampler[list[int]]):
    """Yields each epoch's batches of example numbers; `set_epoch` chooses the epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.drop_last = False
        self._lengths = lengths
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order is used next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed}/{self._epoch}")  # noqa: S311 - shuffling, not security
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        window = self.batch_size * _WINDOW
        batches = []
        for start in range(0, len(order), window):
            alike = sorted(order[start : start + window], key=self._lengths.__getitem__)
            batches += [alike[at : at + self.batch_size] for at in range(0, len(alike), self.batch_size)]
        rng.shuffle(batches)
        return iter(batches)


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Pad on the right to the longest example: input_ids (or prefix_states), attention_mask and labels."""
    width = max(len(example.input_ids) for example in examples)
    mask = [_pad([1] * len(example.input_ids), width, 0) for example in examples]
    return _inputs(examples, width) | {
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor([_label_row(example.labels, width) for example in examples]),
    }


def _inputs(examples: Sequence[Example], width: int) -> dict[str, Tensor]:
    states = [example.prefix_states for example in examples if example.prefix_states is not None]
    if len(states) == len(examples):
        return {"prefix_states": nn.utils.rnn.pad_sequence(states, batch_first=True)}
    return {"input_ids": torch.tensor([_pad(example.input_ids, width, 0) for example in examples])}


def _label_row(labels: Labels, width: int) -> Labels:
    return _pad(labels, width, IGNORED) if isinstance(labels, list) else labels


def _pad(values: list[int], width: int, filler: int) -> list[int]:
    return [*values, *[filler] * (width - len(values))]


def by_length(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield batches of similar length, longest first; for scoring, where order does not matter."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]
