"""Held-out scores of an adapter, and of the base if both can be asked the same question.

Classification: accuracy and macro F1 (single_label), share of exactly correct label sets and macro F1 (multi_label),
mean squared error (regression), and the F1 of each label. Generation: mean negative log-likelihood of the answers'
tokens in nats, including the end of turn, and its exponential, the perplexity. `zero_shot` or `prototypes` computes
the base's classification score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.inject.adapted import IGNORED
from headmix_adapters.inject.backbone import backbone_of, vocabulary_scores
from headmix_adapters.inject.classifier import ClassifierModel, problem_loss
from headmix_adapters.train.data.batches import by_length, collate
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.errors import TrainError
from headmix_adapters.train.history.events import Scores
from headmix_adapters.train.scoring.label_metrics import label_scores, number_scores
from headmix_adapters.train.scoring.metrics import Metric

SQUARES = "mean_squared_error"
"""The deciding score of a regression."""


class Evaluation(msgspec.Struct, frozen=True):
    """Held-out scores by name, and the F1 of each label that occurs in the held-out texts or the predictions."""

    scores: Scores
    label_f1: Scores = {}

    @property
    def is_finite(self) -> bool:
        """Whether every score is a number."""
        return all(math.isfinite(value) for value in self.scores.values())

    def require_numbers(self, whose: str, remedy: str) -> None:
        """Make sure that every score is a number.

        Raises:
            TrainError: a score is not.
        """
        if not self.is_finite:
            raise TrainError(f"the {whose}'s scores are not finite: {remedy}")


@dataclass(frozen=True, slots=True)
class DecidingScore:
    """The score that decides which of two epochs or two models is better."""

    name: str
    greater_is_better: bool

    def is_worse(self, scores: Scores, reference: Scores) -> bool:
        """Return whether the first scores are worse than the second."""
        one, other = scores[self.name], reference[self.name]
        return one < other if self.greater_is_better else one > other


def deciding_score(classifier: ClassifierConfig | None) -> DecidingScore:
    """Return a task's deciding score; `classifier` is None for generation."""
    if classifier is None:
        return DecidingScore("answer_nll", greater_is_better=False)
    if classifier.problem == "regression":
        return DecidingScore(SQUARES, greater_is_better=False)
    return DecidingScore("accuracy", greater_is_better=True)


@torch.no_grad()
def evaluate_classifier(
    model: ClassifierModel, examples: Sequence[Example], batch_size: int, metrics: Sequence[Metric] = ()
) -> Evaluation:
    """Return a classifier's scores and its loss; restores the mode the model was in."""
    training = model.training
    model.eval()
    logits, labels = [], []
    for batch in by_length(examples, batch_size):
        tensors = {name: tensor.to(model.model.device) for name, tensor in collate(batch).items()}
        output = model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])
        logits.append(cast("Tensor", output.logits).cpu())
        labels.append(tensors["labels"].cpu())
    model.train(training)
    all_logits, all_labels = torch.cat(logits), torch.cat(labels)
    judged = evaluate_labels(model.classifier, all_logits, all_labels, metrics)
    if model.problem == "regression":
        return judged
    loss = float(problem_loss(model.problem, all_logits, all_labels))
    return msgspec.structs.replace(judged, scores=judged.scores | {"loss": loss})


def evaluate_labels(
    classifier: ClassifierConfig, logits: Tensor, labels: Tensor, metrics: Sequence[Metric] = ()
) -> Evaluation:
    """Return the scores of label logits [texts, labels] against labels as `ClassifierModel.forward` takes them."""
    match classifier.problem:
        case "single_label":
            predicted = nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1])
            actual = nn.functional.one_hot(labels, logits.shape[-1])
        case "multi_label":
            predicted, actual = (logits > 0).long(), labels.long()
        case "regression":
            squares = float((logits - labels).square().mean())
            return Evaluation({SQUARES: squares} | number_scores(metrics, logits, labels))
    right = (predicted == actual).all(dim=-1).double().mean()
    label_f1 = _label_f1(classifier.labels, predicted, actual)
    macro_f1 = sum(label_f1.values()) / len(label_f1) if label_f1 else 0.0
    scores = {"accuracy": float(right), "macro_f1": macro_f1} | label_scores(metrics, predicted, actual)
    return Evaluation(scores, label_f1)


def _label_f1(names: Sequence[str], predicted: Tensor, actual: Tensor) -> Scores:
    """Return F1 from 0/1 [texts, labels], for each label that is present or predicted at all."""
    hits = (predicted * actual).sum(dim=0).double()
    total = (predicted + actual).sum(dim=0).double()
    return {name: float(2 * hit / count) for name, hit, count in zip(names, hits, total, strict=True) if count > 0}


@torch.no_grad()
def answer_scores(model: PreTrainedModel, examples: Sequence[Example], batch_size: int) -> Scores:
    """Return the scores of a generator as it is: with the adapter if one is attached, else the base's own."""
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
