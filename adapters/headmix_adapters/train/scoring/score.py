"""The held-out scores on a recipe's task: of a model in memory, of an artifact file, of the base alone."""

from pathlib import Path

from headmix_adapters.artifact import verify_artifact
from headmix_adapters.inject import AdaptedModel, ClassifierModel, load_adapter
from headmix_adapters.train.prepare import Material, base_family
from headmix_adapters.train.scoring.answer_metrics import answer_text_scores
from headmix_adapters.train.scoring.decode import decode_answers
from headmix_adapters.train.scoring.evaluate import Evaluation, answer_scores, evaluate_classifier
from headmix_adapters.train.scoring.prototypes import evaluate_prototypes
from headmix_adapters.train.scoring.zero_shot import evaluate_zero_shot

SCORING_BATCH = 16
_ASKED_TOKENS = 2**17
"""Asking the base in words takes at most this many tokens, or as many as training reads if those are more."""


def score_model(material: Material, model: AdaptedModel) -> Evaluation:
    """Return the scores of an adapted model as it is."""
    examples = material.eval.examples
    if isinstance(model, ClassifierModel):
        return evaluate_classifier(model, examples, SCORING_BATCH, material.recipe.metrics)
    return Evaluation(answer_scores(model.model, examples, SCORING_BATCH))


def score_artifact(material: Material, artifact: Path) -> Evaluation:
    """Return the scores of an artifact file, after verifying it against the base.

    Raises:
        ArtifactError: the file is not a valid artifact for this base; lists every fault.
    """
    verify_artifact(artifact, base=material.base.shape)
    loaded = load_adapter(material.model, artifact)
    try:
        scored = score_model(material, loaded)
        return _with_answers(material, scored) if material.recipe.classifier is None else scored
    finally:
        loaded.adapter.detach()


def score_base(material: Material) -> Evaluation | None:
    """Return the scores of the base without an adapter.

    None if the task cannot be put to it as a question, or texts contain added tokens, for which it has no embeddings.
    A score of some held-out texts alone says how many (`asked_texts`).
    """
    classifier, held_out, metrics = material.recipe.classifier, material.eval.examples, material.recipe.metrics
    if material.recipe.added_tokens:
        return None
    if classifier is None:
        return _with_answers(material, Evaluation(answer_scores(material.model, held_out, SCORING_BATCH)))
    if not base_family(material.base).generates:
        return evaluate_prototypes(
            material.model, classifier, material.train.examples, held_out, SCORING_BATCH, metrics
        )
    read = material.train.tokens * material.recipe.training.epochs
    return evaluate_zero_shot(material.model, material.text, classifier, held_out, metrics, max(_ASKED_TOKENS, read))


def _with_answers(material: Material, scored: Evaluation) -> Evaluation:
    """Add the scores of generated answers, if the recipe asks for some. They take long, so no epoch has them."""
    metrics = material.recipe.metrics
    if not metrics:
        return scored
    decoded = decode_answers(material.model, material.text, material.eval.examples, SCORING_BATCH)
    found = answer_text_scores(metrics, decoded.answers, decoded.expected)
    return Evaluation(scored.scores | found | {"decoded_answers": float(len(decoded.answers))})
