"""A linear classifier on the frozen base: the baseline a classifier adapter must beat to be more than its head.

Logistic regression (least squares for numbers) on standardised states of the last layer: the last token's for a
generative base, the mean for an encoder. Nothing in the base is trained, so it costs one pass over the texts.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from headmix_adapters.config import ClassifierConfig, Pooling
from headmix_adapters.families import usual_pooling
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.classifier import problem_loss
from headmix_adapters.reference import pool
from headmix_adapters.train.data.batches import by_length, collate
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.prepare import Material, base_family
from headmix_adapters.train.scoring.evaluate import Evaluation, evaluate_labels

_MAX_TEXTS = 10_000
"""More training texts change little, and each costs a forward pass."""
_DECAY = 1e-3
_BATCH = 20


def evaluate_linear_probe(material: Material) -> Evaluation | None:
    """Return the probe's held-out scores; None for generation, or if texts contain added tokens."""
    classifier = material.recipe.classifier
    if classifier is None or material.recipe.added_tokens:
        return None
    pooling: Pooling = usual_pooling(base_family(material.base).generates)
    known = material.train.examples[:_MAX_TEXTS]
    states, labels = _embed(material, known, pooling)
    texts, expected = _embed(material, material.eval.examples, pooling)
    mean, deviation = states.mean(dim=0), states.std(dim=0, correction=0) + 1e-6
    probe = _fit(classifier, (states - mean) / deviation, labels)
    with torch.no_grad():
        return evaluate_labels(classifier, probe((texts - mean) / deviation), expected, material.recipe.metrics)


def _fit(classifier: ClassifierConfig, states: Tensor, labels: Tensor) -> nn.Linear:
    probe = nn.Linear(states.shape[1], len(classifier.labels))
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=200)

    def loss() -> float:
        optimizer.zero_grad()
        value = problem_loss(classifier.problem, probe(states), labels) + _DECAY * probe.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        return float(value.detach())

    step: Callable[[Callable[[], float]], object] = optimizer.step
    step(loss)
    return probe


@torch.no_grad()
def _embed(material: Material, examples: Sequence[Example], pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Return pooled states [texts, D] after the final norm, and labels, in the same order."""
    model = material.model
    rows, labels = [], []
    for batch in by_length(examples, _BATCH):
        tensors = {name: tensor.to(model.device) for name, tensor in collate(batch).items()}
        output = backbone_of(model)(
            input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"], use_cache=False
        )
        states = zip(output.last_hidden_state, batch, strict=True)
        rows += [pool(state[: len(example.input_ids)], pooling).float().cpu() for state, example in states]
        labels.append(tensors["labels"].cpu())
    return torch.stack(rows), torch.cat(labels)
