"""Scores of an adapter on held-out examples, with the outcome of each for the paired tests.

Classification: accuracy and Matthews' correlation (MCC), which does not reward guessing the frequent label. Generation:
the loss per token of the true answers, and the shares of answers, or of their beginnings, that greedy decoding gives
exactly: it does if and only if each true token has the highest score after the true ones before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from headmix_adapters.inject import ClassifierModel, LanguageModel
from headmix_adapters.train.data.batches import collate
from headmix_adapters.train.data.examples import IGNORED, Example

BATCH = 32


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by name, and for each example, in the given order, its outcome and its number of answer tokens."""

    scores: dict[str, float]
    outcomes: tuple[float, ...]
    tokens: tuple[int, ...] = ()


@torch.no_grad()
def score_classifier(model: ClassifierModel, examples: Sequence[Example]) -> Scored:
    """Return a classifier's accuracy and MCC; the outcome of a text is 1 if its label is right."""
    nn.Module.train(model, False)
    predicted: dict[int, int] = {}
    for numbers, batch in _batches(examples):
        tensors = collate(batch)
        tensors.pop("labels")
        logits = cast("Tensor", model(**tensors).logits)
        predicted |= zip(numbers, logits.argmax(dim=-1).tolist(), strict=True)
    return judge_labels([predicted[number] for number in range(len(examples))], labels_of(examples))


def labels_of(examples: Sequence[Example]) -> list[int]:
    """Return the label numbers of a single-label task's examples."""
    return [cast("int", example.labels) for example in examples]


def judge_labels(predicted: Sequence[int], actual: Sequence[int]) -> Scored:
    """Return accuracy and MCC of predicted labels."""
    right = tuple(float(one == other) for one, other in zip(predicted, actual, strict=True))
    return Scored({"accuracy": sum(right) / len(right), "MCC": matthews(predicted, actual)}, right)


def matthews(predicted: Sequence[int], actual: Sequence[int]) -> float:
    """Return Matthews' correlation for any number of labels (Gorodkin 2004); 0 if only one label is predicted."""
    count = max(*predicted, *actual) + 1
    table = torch.zeros(count, count, dtype=torch.float64)
    for row, column in zip(actual, predicted, strict=True):
        table[row, column] += 1
    total, right = table.sum(), table.trace()
    rows, columns = table.sum(dim=1), table.sum(dim=0)
    below = (total**2 - columns.square().sum()) * (total**2 - rows.square().sum())
    return float((right * total - rows @ columns) / below.sqrt()) if below > 0 else 0.0


@torch.no_grad()
def score_generator(model: LanguageModel, examples: Sequence[Example], beginnings: Sequence[int] | None) -> Scored:
    """Return a generator's loss per token and its shares of exact answers.

    The outcome of an example is its answer's loss per token. `beginnings` are the numbers of tokens of each answer's
    beginning, if that is scored too.
    """
    nn.Module.train(model, False)
    losses: dict[int, Tensor] = {}
    right: dict[int, Tensor] = {}
    for numbers, batch in _batches(examples):
        tensors = collate(batch)
        logits = cast("Tensor", model(**tensors).logits)
        supervised = tensors["labels"][:, 1:] != IGNORED
        targets = tensors["labels"][:, 1:][supervised]
        lengths = supervised.sum(dim=1).tolist()
        each = nn.functional.cross_entropy(logits, targets, reduction="none")
        hits = logits.argmax(dim=-1) == targets
        losses |= zip(numbers, torch.split(each, lengths), strict=True)
        right |= zip(numbers, torch.split(hits, lengths), strict=True)
    order = range(len(examples))
    tokens = tuple(len(losses[number]) for number in order)
    outcomes = tuple(round(float(losses[number].mean()), 5) for number in order)
    scores = {
        "loss per token": float(sum(losses[number].sum() for number in order)) / sum(tokens),
        "exact answers": _share([bool(right[number].all()) for number in order]),
    }
    if beginnings is not None:
        hits_of = [bool(right[number][: beginnings[number]].all()) for number in order]
        scores["exact beginnings"] = _share(hits_of)
    return Scored(scores, outcomes, tokens)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def _batches(examples: Sequence[Example]) -> list[tuple[list[int], list[Example]]]:
    """Return batches of similar length with the numbers of their examples."""
    order = sorted(range(len(examples)), key=lambda number: len(examples[number].input_ids), reverse=True)
    chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [(chunk, [examples[number] for number in chunk]) for chunk in chunks]
