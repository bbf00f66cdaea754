"""Held-out scores of an adapter, and of the base where both can be asked the same question.

Classification: accuracy and macro F1 (single_label), share of exactly right label sets and macro F1 (multi_label),
mean squared error (regression). Generation: mean negative log-likelihood of the answers' tokens in nats, end of turn
included, and its exponential, the perplexity. The base's classification score is `zero_shot`'s or `prototypes`'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headmix_adapters.config import ClassifierConfig, Problem
from headmix_adapters.inject.adapted import IGNORED
from headmix_adapters.inject.backbone import backbone_of, vocabulary_scores
from headmix_adapters.inject.classifier import ClassifierModel
from headmix_adapters.train.batches import by_length, collate
from headmix_adapters.train.examples import Example

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class DecidingScore:
    """The one score that says which of two epochs is better."""

    name: str
    greater_is_better: bool


def deciding_score(classifier: ClassifierConfig | None) -> DecidingScore:
    """Return a task's deciding score; `classifier` is None for generation."""
    if classifier is None:
        return DecidingScore("answer_nll", greater_is_better=False)
    if classifier.problem == "regression":
        return DecidingScore("mean_squared_error", greater_is_better=False)
    return DecidingScore("accuracy", greater_is_better=True)


@torch.no_grad()
def classification_scores(model: ClassifierModel, examples: Sequence[Example], batch_size: int) -> Scores:
    """Return the scores of a classifier; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    logits, labels = [], []
    for batch in by_length(examples, batch_size):
        tensors = {name: tensor.to(model.model.device) for name, tensor in collate(batch).items()}
        output = model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])
        logits.append(cast("Tensor", output.logits).cpu())
        labels.append(tensors["labels"].cpu())
    model.train(training)
    return label_scores(model.problem, torch.cat(logits), torch.cat(labels))


def label_scores(problem: Problem, logits: Tensor, labels: Tensor) -> Scores:
    """Return the scores of label logits [texts, labels] against labels as `ClassifierModel.forward` takes them."""
    match problem:
        case "single_label":
            predicted = nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1])
            actual = nn.functional.one_hot(labels, logits.shape[-1])
        case "multi_label":
            predicted, actual = (logits > 0).long(), labels.long()
        case "regression":
            return {"mean_squared_error": float((logits - labels).square().mean())}
    right = (predicted == actual).all(dim=-1).double().mean()
    return {"accuracy": float(right), "macro_f1": _macro_f1(predicted, actual)}


def _macro_f1(predicted: Tensor, actual: Tensor) -> float:
    """Mean F1 from 0/1 [texts, labels], over the labels that are present or predicted at all (0 where none is)."""
    hits = (predicted * actual).sum(dim=0).double()
    total = (predicted + actual).sum(dim=0).double()
    occurring = total > 0
    return float((2 * hits[occurring] / total[occurring]).mean()) if occurring.any() else 0.0


@torch.no_grad()
def answer_scores(model: PreTrainedModel, examples: Sequence[Example], batch_size: int) -> Scores:
    """Return the scores of a generator as it stands: with the adapter where one is attached, else the base's own."""
    training = model.training
    model.train(False)
    total, count = 0.0, 0
    for batch in by_length(examples, batch_size):
        tensors = {name: tensor.to(model.device) for name, tensor in collate(batch).items()}
        output = backbone_of(model)(
            input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"], use_cache=False
        )
        supervised = tensors["labels"][:, 1:] != IGNORED
        logits = vocabulary_scores(model, output.last_hidden_state[:, :-1][supervised])
        targets = tensors["labels"][:, 1:][supervised]
        total += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
        count += targets.numel()
    model.train(training)
    mean = total / max(count, 1)
    return {"answer_nll": mean, "answer_perplexity": math.exp(min(mean, 700.0)), "answer_tokens": float(count)}
