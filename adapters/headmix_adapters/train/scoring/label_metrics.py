"""Scores of predicted labels and numbers that a recipe may ask for; one that these texts don't define is left out."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from headmix_adapters.train.scoring.metrics import Metric


def label_scores(metrics: Sequence[Metric], predicted: Tensor, actual: Tensor) -> dict[str, float]:
    """Return scores of 0/1 [texts, labels]."""
    return _scores(_LABELS, metrics, predicted.double(), actual.double())


def number_scores(metrics: Sequence[Metric], predicted: Tensor, actual: Tensor) -> dict[str, float]:
    """Return scores of numbers [texts, labels], each the mean over the labels."""
    return _scores(_NUMBERS, metrics, predicted.double(), actual.double())


def _scores(
    functions: Mapping[str, Callable[[Tensor, Tensor], Tensor]], metrics: Sequence[Metric], one: Tensor, other: Tensor
) -> dict[str, float]:
    values = {name: float(functions[name](one, other)) for name in metrics if name in functions}
    return {name: value for name, value in values.items() if value == value}


def _micro_f1(predicted: Tensor, actual: Tensor) -> Tensor:
    return 2 * (predicted * actual).sum() / (predicted + actual).sum()


def _binary_f1(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return the F1 of the second label; 0 if it neither occurs nor is predicted, as in scikit-learn."""
    total = (predicted + actual)[:, 1].sum()
    return 2 * (predicted * actual)[:, 1].sum() / total.clamp(min=1)


def _mcc(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return Matthews' correlation for any number of labels; 0 where one side has a single label, as in scikit-learn.

    Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004.
    """
    one, other = predicted - predicted.mean(dim=0), actual - actual.mean(dim=0)
    spread = (one.square().sum() * other.square().sum()).sqrt()
    return (one * other).sum() / spread if float(spread) > 0 else torch.zeros(())


def _pearson(predicted: Tensor, actual: Tensor) -> Tensor:
    """Return the correlation; NaN if either side is constant."""
    one, other = predicted - predicted.mean(dim=0), actual - actual.mean(dim=0)
    spread = (one.square().sum(dim=0) * other.square().sum(dim=0)).sqrt()
    return ((one * other).sum(dim=0) / spread).mean()


def _spearman(predicted: Tensor, actual: Tensor) -> Tensor:
    return _pearson(_ranks(predicted), _ranks(actual))


def _ranks(values: Tensor) -> Tensor:
    """Return each value's rank in its column; equal values share the mean of theirs."""
    columns = []
    for column in values.T:
        _, groups, counts = torch.unique(column, return_inverse=True, return_counts=True)
        last = counts.cumsum(dim=0).double()
        columns.append((last - (counts.double() - 1) / 2)[groups])
    return torch.stack(columns, dim=1)


_LABELS = MappingProxyType({"micro_f1": _micro_f1, "binary_f1": _binary_f1, "mcc": _mcc})
_NUMBERS = MappingProxyType({"pearson": _pearson, "spearman": _spearman})
