"""Scores a base that cannot generate on a single-label task: it predicts the label with the nearest training texts.

Each label's prototype is the mean of its training texts' embeddings: the base's token states, averaged over the text
and scaled to length one. A text gets the label with the highest cosine to its own embedding. No weight is trained.
Source: Snell et al., "Prototypical networks for few-shot learning", NeurIPS 2017 (arXiv 1703.05175); here on a frozen
encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.train.data.batches import by_length, collate
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.scoring.evaluate import Evaluation, evaluate_labels
from headmix_adapters.train.scoring.metrics import Metric


@torch.no_grad()
def evaluate_prototypes(
    model: PreTrainedModel,
    classifier: ClassifierConfig,
    train: Sequence[Example],
    held_out: Sequence[Example],
    batch_size: int,
    metrics: Sequence[Metric] = (),
) -> Evaluation | None:
    """Return the base's own scores on the held-out examples; None if labels are sets or numbers."""
    if classifier.problem != "single_label":
        return None
    known, labels = _embed(model, train, batch_size)
    prototypes = known.new_zeros(len(classifier.labels), known.shape[-1]).index_add_(0, labels, known)
    texts, expected = _embed(model, held_out, batch_size)
    return evaluate_labels(classifier, texts @ normalize(prototypes, dim=-1).T, expected, metrics)


def _embed(model: PreTrainedModel, examples: Sequence[Example], batch_size: int) -> tuple[Tensor, Tensor]:
    """Return embeddings [texts, D] and label numbers [texts], in the same order."""
    rows, labels = [], []
    for batch in by_length(examples, batch_size):
        tensors = {name: tensor.to(model.device) for name, tensor in collate(batch).items()}
        mask = tensors["attention_mask"]
        states = backbone_of(model)(input_ids=tensors["input_ids"], attention_mask=mask).last_hidden_state.float()
        # The sum has the same direction as the mean, and only the direction matters.
        rows.append(normalize((states * mask.unsqueeze(-1)).sum(dim=1), dim=-1).cpu())
        labels.append(tensors["labels"].cpu())
    return torch.cat(rows), torch.cat(labels)
