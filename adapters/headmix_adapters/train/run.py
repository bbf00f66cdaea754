"""One training run from a recipe's material to an artifact.

Owns the order: score the base, train, write, verify, score the file; and when a run may start or go on.
"""

import time
from functools import partial
from pathlib import Path

import msgspec
from torch import Tensor

from headmix_adapters.artifact import digest_bytes, digest_file
from headmix_adapters.inject import AdaptedModel, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import split_backbone
from headmix_adapters.train.checkpoints import RunFolder, RunIdentity
from headmix_adapters.train.evaluate import deciding_score
from headmix_adapters.train.examples import Example
from headmix_adapters.train.finish import Result, training_record, write_result
from headmix_adapters.train.material import Material, load_model, precision
from headmix_adapters.train.prefix import prefix_pays, with_prefix_states
from headmix_adapters.train.report import Reporter
from headmix_adapters.train.score import SCORING_BATCH, score_base, score_model
from headmix_adapters.train.trainer import fit, training_arguments


def train_adapter(material: Material, artifact: Path, *, resume: bool, reporter: Reporter) -> Result:
    """Train the recipe's adapter and write it to `artifact`.

    Raises:
        Interrupted: Ctrl-C during training; `resume=True` continues.
        TrainError: an unfinished run is in the way, or there is none to resume.
    """
    folder = RunFolder(artifact)
    checkpoint, identity = _open_run(folder, material, resume=resume, reporter=reporter)
    started = time.monotonic()
    steps, tensors = _fit(material, folder, checkpoint, reporter)
    record = training_record(material, steps, time.monotonic() - started)
    result = write_result(material, artifact, tensors, record, identity.base_scores)
    folder.remove()
    return result


def _open_run(
    folder: RunFolder, material: Material, *, resume: bool, reporter: Reporter
) -> tuple[Path | None, RunIdentity]:
    identity = RunIdentity(
        recipe=digest_bytes(msgspec.json.encode(material.recipe)),
        train_data=digest_file(material.files["train"]),
        eval_data=digest_file(material.files["eval"]),
        base=material.base.shape.fingerprint,
    )
    if resume:
        checkpoint, stored = folder.resume(identity)
        reporter.say(f"resuming from {checkpoint.name}")
        return checkpoint, stored
    folder.require_unused()
    reporter.say("scoring the base without an adapter")
    identity = msgspec.structs.replace(identity, base_scores=score_base(material))
    reporter.scores("base alone", identity.base_scores)
    folder.start(identity)
    return None, identity


def _fit(
    material: Material, folder: RunFolder, checkpoint: Path | None, reporter: Reporter
) -> tuple[int, dict[str, Tensor]]:
    """Train on the base in the recipe's precision; return optimizer steps and the adapter's tensors."""
    table = material.recipe.training
    dtype = precision(table.precision)
    base = material.model if material.model.dtype == dtype else load_model(material.base, dtype)
    adapter = attach(base, material.config, material.layers, dropout=table.dropout, seed=table.seed)
    try:
        kind = LanguageModel if material.recipe.classifier is None else ClassifierModel
        model = kind(base, adapter, label_smoothing=table.label_smoothing)
        examples = _training_examples(material, model, reporter)
        deciding = deciding_score(material.recipe.classifier)
        arguments = training_arguments(table, folder.path, deciding, quiet=reporter.quiet)
        scorer = partial(score_model, material, model)
        return fit(model, examples, scorer, arguments, checkpoint, table.early_stopping_patience)
    finally:
        adapter.detach()


def _training_examples(material: Material, model: AdaptedModel, reporter: Reporter) -> list[Example]:
    """Return the examples, with the frozen layers' states where they would be computed more than once."""
    examples = material.train.examples
    if material.recipe.added_tokens:
        # Their rows are learnt, so nothing that is computed from them is frozen.
        return examples
    base = model.model
    split = split_backbone(backbone_of(base), material.layers[0])
    epochs = material.recipe.training.epochs
    if split is None or not prefix_pays(examples, material.base.shape.hidden_size, base.dtype.itemsize, epochs):
        return examples
    reporter.say(f"the {split.at} layers below the adapter are computed once for each text")
    model.use_split(split)
    return with_prefix_states(examples, split, base.device, SCORING_BATCH)
