"""How much a text of each label counts in a classifier's training loss. Knows no tensors."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from headmix_adapters.config import ClassifierConfig

ClassWeights = Literal["balanced"] | dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e9)]]


def check_class_weights(weights: ClassWeights, classifier: ClassifierConfig | None) -> None:
    """Make sure that weights fit a classifier.

    Raises:
        ValueError: it has not one label per text, or lacks a label that has a weight.
    """
    if classifier is None or classifier.problem != "single_label":
        raise ValueError("training.class_weights is for classification with one label per text (single_label)")
    if isinstance(weights, Mapping) and (unknown := [name for name in weights if name not in classifier.labels]):
        raise ValueError(f"training.class_weights: {unknown[0]!r} is not among classifier.labels")


def class_weights(weights: ClassWeights, classifier: ClassifierConfig, labels: Iterable[object]) -> list[float]:
    """Return the weight of each label in order, scaled so that their mean over the training texts is 1.

    `labels` are the numbers of the training texts' labels. Balanced weights are texts / (labels that occur * texts of
    the label), so that every label counts the same in all. A label without a weight of its own has weight 1 before the
    scaling, and so has one without a text.
    """
    counts = Counter(labels)
    if isinstance(weights, Mapping):
        found = [weights.get(name, 1.0) for name in classifier.labels]
    else:
        share = counts.total() / len(counts)
        found = [share / counts[number] if counts[number] else 1.0 for number in range(len(classifier.labels))]
    mean = sum(found[number] * counts[number] for number in range(len(found))) / counts.total()
    return [weight / mean for weight in found]
