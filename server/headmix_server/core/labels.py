"""The meaning of a classification head's scores in terms of its labels."""

from collections.abc import Sequence

from headmix_adapters.config import ClassifierConfig
from headmix_server.core.errors import InternalError

MULTI_LABEL_THRESHOLD = 0.5


def read_scores(scores: Sequence[float], head: ClassifierConfig) -> tuple[str, tuple[str, ...] | None]:
    """Return the label with the highest score, and the labels a multi-label head assigns; None for other heads.

    Raises:
        InternalError: the engine returned a different number of scores than the head has labels.
    """
    if len(scores) != len(head.labels):
        raise InternalError(f"{len(scores)} scores for {len(head.labels)} labels")
    best = head.labels[max(range(len(scores)), key=scores.__getitem__)]
    if head.problem != "multi_label":
        return best, None
    return best, tuple(label for label, p in zip(head.labels, scores, strict=True) if p >= MULTI_LABEL_THRESHOLD)
