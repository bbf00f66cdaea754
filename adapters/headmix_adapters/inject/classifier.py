"""`AdaptedModel` for classification: pooled states through the adapter's head, and the loss for its problem."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from headmix_adapters.config import ClassifierConfig, Problem
from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.inject.attach import AttachedAdapter
from headmix_adapters.inject.classifier_head import ClassifierHead
from headmix_adapters.inject.errors import AttachError


class ClassifierModel(AdaptedModel):
    """A classifier around the model's layers; the model's own head or pooler, if any, is not used.

    Label smoothing and `class_weights`, one for each label of single_label, only apply in training. Their mean over the
    training texts should be 1, so that they don't change how large the gradients are. They change the loss's gradient
    and not its value.
    """

    # The loss is a mean over texts, so Trainer averages micro-batches itself.
    accepts_loss_kwargs = False

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: AttachedAdapter,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(model, adapter)
        if adapter.head is None:
            raise AttachError("the adapter has no classification head")
        self._classifier = adapter.head.config
        self.label_smoothing = label_smoothing
        self._weights = None if class_weights is None else torch.tensor(class_weights)

    @property
    def classifier(self) -> ClassifierConfig:
        """The head's config: its pooling and its labels."""
        return self._classifier

    @property
    def problem(self) -> Problem:
        """The kind of labels the head predicts."""
        return self._classifier.problem

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        prefix_states: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return logits [texts, labels] and, given labels, the loss.

        Labels are label numbers [texts] for single_label, 0/1 [texts, labels] for multi_label and values
        [texts, labels] for regression. `attention_mask` marks padding: on the right, or on either side if positions
        are rotary (a learned table of positions counts from the left).
        """
        given = input_ids if input_ids is not None else prefix_states
        if given is None:
            raise ValueError("input_ids or prefix_states are needed")
        mask = given.new_ones(given.shape[:2], dtype=torch.long) if attention_mask is None else attention_mask
        head = cast("ClassifierHead", self.head)
        logits = head(self.hidden_states(input_ids, mask, prefix_states), mask, input_ids)
        smoothing = self.label_smoothing if self.training else 0.0
        weights = self._weights.to(logits) if self._weights is not None and self.training else None
        loss = None if labels is None else problem_loss(self.problem, logits, labels, smoothing, weights)
        if loss is not None and labels is not None and weights is not None:
            # Trained on the weighted loss, with the value of the plain one: how far a small batch's weighted loss is
            # from the last one's says which labels it has, and would be taken for a run that diverges.
            loss = problem_loss(self.problem, logits, labels, smoothing).detach() + (loss - loss.detach())
        return SequenceClassifierOutput(loss=cast("torch.FloatTensor | None", loss), logits=logits)


def problem_loss(
    problem: Problem, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the mean loss: cross entropy, binary cross entropy per label, or squared error.

    `weights` [labels] are for single_label: each text's loss is multiplied by its label's. The sum is divided by the
    number of texts and not by their weights, or a batch of one text would take no notice of its weight.
    """
    match problem:
        case "single_label":
            if weights is None:
                return nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
            each = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
            return (weights[labels] * each).mean()
        case "multi_label":
            smoothed = labels.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
            return nn.functional.binary_cross_entropy_with_logits(logits, smoothed)
        case "regression":
            return nn.functional.mse_loss(logits, labels.to(logits.dtype))
