"""One training run, from a recipe's loaded base and data to an artifact.

Owns the order (score the base, train, write, verify, score the file) and when a run may start or resume.
"""

import time
from pathlib import Path

import msgspec

from headmix_adapters.artifact import digest_bytes, digest_file
from headmix_adapters.inject import AdaptedModel, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import split_backbone
from headmix_adapters.train.checkpoints import RunFolder, RunIdentity, RunRecord
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.data.prefix import prefix_pays, with_prefix_states
from headmix_adapters.train.fitted import Fit, load_fit, save_fit
from headmix_adapters.train.prepare import Material, load_model, precision
from headmix_adapters.train.save import Result, training_record, write_result
from headmix_adapters.train.scoring.evaluate import Scores, deciding_score
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import SCORING_BATCH, score_base, score_model
from headmix_adapters.train.trainer import fit, training_arguments


def train_adapter(
    material: Material, artifact: Path, *, resume: bool, reporter: Reporter, force: bool = False
) -> Result:
    """Train the recipe's adapter and write it to `artifact`; `force` replaces an existing one.

    Raises:
        Interrupted: Ctrl-C during training; `resume=True` continues.
        TargetError: an artifact or an unfinished run is in the way, or there is none to resume.
        TrainError: training failed, or a score is not a number.
    """
    folder = RunFolder(artifact)
    folder.require_startable(resume=resume, force=force)
    with folder.locked():
        checkpoint, record = _open_run(folder, material, resume=resume, reporter=reporter)
        started = time.monotonic()
        fitted = load_fit(folder.path) if resume else None
        if fitted is None:
            fitted = _fit(material, folder, checkpoint, reporter)
            save_fit(folder.path, fitted)
        history = training_record(material, fitted.steps, time.monotonic() - started)
        folder.require_replaceable(record, force=force)
        with reporter.stage("scoring the adapter as it is written"):
            result = write_result(material, artifact, fitted, history, record)
        folder.remove()
    return result


def _open_run(
    folder: RunFolder, material: Material, *, resume: bool, reporter: Reporter
) -> tuple[Path | None, RunRecord]:
    identity = RunIdentity(
        recipe=digest_bytes(msgspec.json.encode(material.recipe) + material.config.chat_template.encode()),
        train_data=digest_file(material.files["train"]),
        eval_data=digest_file(material.files["eval"]),
        base=material.base.shape.fingerprint,
    )
    if resume:
        checkpoint, record = folder.resume(identity)
        reporter.say(f"resuming from {checkpoint.name}")
        return checkpoint, record
    with reporter.stage("scoring the base without an adapter"):
        base = score_base(material)
    if base is not None:
        base.require_numbers("base", "its weights are damaged, or too large for its precision")
    reporter.scores("base alone", None if base is None else base.scores)
    probe = None
    if material.recipe.classifier is not None:
        with reporter.stage("fitting a linear classifier on the frozen base"):
            probe = evaluate_linear_probe(material)
        reporter.scores("linear classifier on the frozen base", None if probe is None else probe.scores)
    replaces = digest_file(folder.artifact) if folder.artifact.exists() else None
    record = RunRecord(identity=identity, base=base, probe=probe, replaces=replaces)
    folder.start(record)
    return None, record


def _fit(material: Material, folder: RunFolder, checkpoint: Path | None, reporter: Reporter) -> Fit:
    """Train on the base, in the recipe's precision."""
    table = material.recipe.training
    dtype = precision(table.precision)
    base = material.model if material.model.dtype == dtype else load_model(material.base, dtype)
    adapter = attach(base, material.config, material.layers, dropout=table.dropout, seed=table.seed)
    try:
        kind = LanguageModel if material.recipe.classifier is None else ClassifierModel
        model = kind(base, adapter, label_smoothing=table.label_smoothing)
        examples = _training_examples(material, model, reporter)
        arguments = training_arguments(table, folder.path, deciding_score(material.recipe.classifier))

        def score() -> Scores:
            return score_model(material, model).scores

        with reporter.training() as progress:
            return fit(model, examples, score, arguments, progress, checkpoint, table.early_stopping_patience)
    finally:
        adapter.detach()


def _training_examples(material: Material, model: AdaptedModel, reporter: Reporter) -> list[Example]:
    """Return the examples, with the frozen layers' states if those would otherwise be computed more than once."""
    examples = material.train.examples
    if material.recipe.added_tokens:
        # The added tokens' rows are learned, so nothing computed from them is frozen.
        return examples
    base = model.model
    split = split_backbone(backbone_of(base), material.layers[0])
    epochs = material.recipe.training.epochs
    if split is None or not prefix_pays(examples, material.base.shape.hidden_size, base.dtype.itemsize, epochs):
        return examples
    model.use_split(split)
    with reporter.stage(f"the {split.at} layers below the adapter are computed once for each text", keep=True):
        return with_prefix_states(examples, split, base.device, SCORING_BATCH)
