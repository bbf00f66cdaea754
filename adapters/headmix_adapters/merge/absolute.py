"""What adapters have that is no addition to the base, and so is averaged or chosen: heads, added tokens, templates.

Weights count relative to their sum here: two equal heads give that head, whatever their weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from msgspec import UNSET
from torch import Tensor

from headmix_adapters.config import AdapterConfig, ClassifierConfig
from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.terms import Addition

EMBEDDING = "added_tokens.embedding"


@dataclass(frozen=True, slots=True)
class Head:
    """The merged adapter's classification head, None for generation, its tensors, and notes for the user."""

    classifier: ClassifierConfig | None
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def merged_head(additions: Sequence[Addition], *, first: bool) -> Head:
    """Return the weighted mean of the adapters' heads, or with `first` the first adapter's own.

    Raises:
        MergeError: the heads do not mean the same scores, or the weights have no mean.
    """
    configs = [addition.artifact.config for addition in additions]
    own = configs[0].classifier
    without_heads = all(config.classifier is None for config in configs)
    if first and without_heads:
        raise MergeError("first_head", "none of the adapters has a classification head")
    if first or without_heads:
        notes = () if own is None else ("classifier: the first adapter's",)
        return Head(own, _classifier(additions[0]), notes if first else ())
    if len({config.task for config in configs}) > 1:
        raise MergeError("task", f"{_listed([config.task for config in configs])}: --first-head takes the first's")
    for config in configs[1:]:
        if reason := _difference(own, config):
            raise MergeError("classifier", f"{reason}; --first-head takes the first adapter's head")
    tensors = [_classifier(addition) for addition in additions]
    weights = [addition.weight for addition in additions]
    return Head(own, {name: _mean([one[name] for one in tensors], weights, "classifier") for name in tensors[0]})


def merged_tokens(additions: Sequence[Addition]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Return all adapters' added tokens, the first's first, and their rows; tokens that several have are averaged.

    Raises:
        MergeError: the weights have no mean.
    """
    rows: dict[str, list[Tensor]] = {}
    weights: dict[str, list[float]] = {}
    for addition in additions:
        for index, token in enumerate(addition.artifact.config.added_tokens):
            rows.setdefault(token, []).append(addition.others[EMBEDDING][index])
            weights.setdefault(token, []).append(addition.weight)
    if not rows:
        return (), {}
    return tuple(rows), {EMBEDDING: torch.stack([_mean(rows[token], weights[token], token) for token in rows])}


def merged_template(configs: Sequence[AdapterConfig], task: str) -> tuple[str, tuple[str, ...]]:
    """Return the chat template all adapters have, or else the first's, with a note."""
    own = configs[0].chat_template if task == "generation" else ""
    if len({config.chat_template for config in configs}) == 1 or task != "generation":
        return own, ()
    return own, (f"chat_template: they differ; {'the first adapter' if own else 'the base'}'s is used",)


def _difference(own: ClassifierConfig | None, config: AdapterConfig) -> str | None:
    other = config.classifier
    if own is None or other is None or own == other:
        return None
    if own.labels != other.labels:
        return f"the labels are {_listed(own.labels)} and {_listed(other.labels)}"
    shown, another = _head(own), _head(other)
    if shown == another:
        return f"one is on {_last_token(own)}, another on {_last_token(other)}"
    return f"one is {shown}, another {another}"


def _head(head: ClassifierConfig) -> str:
    return f"{head.kind} on {head.pooling} ({head.problem})"


def _last_token(head: ClassifierConfig) -> str:
    past = "" if head.pad_token is UNSET else f" that is not {head.pad_token}, its pad token"
    return f"the last token{past}"


def _mean(tensors: list[Tensor], weights: list[float], subject: str) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    total = sum(weights)
    if total <= 0:
        raise MergeError("weights", f"{subject} has no mean: its adapters' weights add up to {total:g}")
    result = tensors[0] * (weights[0] / total)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        result = result + tensor * (weight / total)
    return result


def _classifier(addition: Addition) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in addition.others.items() if name.startswith("classifier.")}


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:8])
    return f"{shown}, ... ({len(words)})" if len(words) > 8 else shown
