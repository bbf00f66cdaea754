"""One training run, from a recipe's loaded base and data to an artifact.

Owns the order (score the base, train, write, verify, score the file) and when a run may start or resume.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
from transformers import PreTrainedModel

from headmix_adapters.artifact import digest_bytes, digest_file
from headmix_adapters.inject import AdaptedModel, AttachedAdapter, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.recomputation import recomputed_layers
from headmix_adapters.inject.split import split_backbone
from headmix_adapters.train.checkpoints.ended import fit_of_ended
from headmix_adapters.train.checkpoints.run_folder import RunFolder, RunIdentity, RunRecord, checkpoint_step
from headmix_adapters.train.data.batches import collate
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.data.packing import PackedCollator, require_exact_packing
from headmix_adapters.train.data.prefix import prefix_pays, with_prefix_states
from headmix_adapters.train.errors import DivergedError
from headmix_adapters.train.fitted import Fit, load_fit, save_fit
from headmix_adapters.train.history.event_log import EventStream
from headmix_adapters.train.history.events import Scores, Started
from headmix_adapters.train.history.history import history_path, read_history, write_history
from headmix_adapters.train.history.recorder import open_recorder
from headmix_adapters.train.prepare import Material, load_model, precision
from headmix_adapters.train.recipe.class_weights import class_weights
from headmix_adapters.train.save import Result, training_record, write_result
from headmix_adapters.train.scoring.evaluate import Evaluation, deciding_score
from headmix_adapters.train.scoring.linear_probe import evaluate_linear_probe
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import SCORING_BATCH, score_base, score_model
from headmix_adapters.train.terminal.step_report import StepReport
from headmix_adapters.train.trainer import Collator, fit, training_arguments

References: TypeAlias = tuple[Evaluation | None, Evaluation | None]
"""The scores of the base alone and of a linear classifier; None where the task defines none."""


def train_adapter(
    material: Material,
    artifact: Path,
    *,
    resume: bool,
    reporter: Reporter,
    force: bool = False,
    events: EventStream | None = None,
    checkpoint_seconds: float | None = None,
    references: References | None = None,
) -> Result:
    """Train the recipe's adapter and write it to `artifact`, and its history next to it.

    `force` replaces an existing artifact; `events` receives what happens; `checkpoint_seconds` is as in `fit`.
    `references` are the scores to compare with, if they have been computed already.

    Raises:
        Interrupted: Ctrl-C during training; `resume=True` continues.
        TargetError: an artifact or an unfinished run is in the way, or there is none to resume.
        DivergedError: the loss or a score is not a number, or the loss is far above its start; the run's checkpoints
            are deleted.
        TrainError: training failed.
    """
    folder = RunFolder(artifact)
    folder.require_startable(resume=resume, force=force)
    with folder.locked():
        checkpoint, record = _open_run(folder, material, references, resume=resume, reporter=reporter)
        run = _Run(material, folder, record, events, checkpoint_seconds)
        try:
            fitted = None if checkpoint is None else _finished(run, checkpoint)
            if fitted is None:
                fitted = _fit(run, checkpoint, reporter)
                save_fit(folder.path, fitted)
            folder.require_replaceable(record, force=force)
            return _write(run, fitted, reporter)
        except DivergedError:
            folder.remove()  # a resumed run would diverge again
            raise


def _finished(run: "_Run", checkpoint: Path) -> Fit | None:
    """Return the result of training that ended before its artifact was written, and report what was not reported.

    Raises:
        DivergedError, TrainError: as `fit_of_ended`.
    """
    fitted = load_fit(run.folder.path) or fit_of_ended(checkpoint)
    if fitted is not None and run.folder.history.exists():
        with open_recorder(run.folder.history, run.events, fitted.steps):
            pass
    return fitted


def _write(run: "_Run", fitted: Fit, reporter: Reporter) -> Result:
    """Write the artifact and the history next to it, and remove the run's folder."""
    artifact, folder = run.folder.artifact, run.folder
    training = training_record(run.material, fitted.steps)
    history_path(artifact).unlink(missing_ok=True)  # that of another run must not lie next to this one's artifact
    with reporter.stage("scoring the adapter as it is written"):
        result = write_result(run.material, artifact, fitted, training, run.record)
    if folder.history.exists():
        write_history(history_path(artifact), read_history(folder.history))
    folder.remove()
    return result


def _open_run(
    folder: RunFolder, material: Material, references: References | None, *, resume: bool, reporter: Reporter
) -> tuple[Path | None, RunRecord]:
    identity = identity_of(material)
    if resume:
        checkpoint, record = folder.resume(identity)
        reporter.say(f"resuming from {checkpoint.name}")
        return checkpoint, record
    base, probe = references or score_references(material, reporter)
    replaces = digest_file(folder.artifact) if folder.artifact.exists() else None
    record = RunRecord(identity=identity, base=base, probe=probe, replaces=replaces)
    folder.start(record)
    return None, record


def identity_of(material: Material) -> RunIdentity:
    """Return what must be unchanged for a run to be resumed."""
    return RunIdentity(
        recipe=digest_bytes(msgspec.json.encode(material.recipe) + material.config.chat_template.encode()),
        train_data=digest_file(material.files["train"]),
        eval_data=digest_file(material.files["eval"]),
        base=material.base.shape.fingerprint,
    )


def score_references(material: Material, reporter: Reporter) -> References:
    """Return the held-out scores of the base alone and of a linear classifier, and report them.

    Raises:
        TrainError: a score of the base is not a number.
    """
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
    return base, probe


@dataclass(frozen=True, slots=True)
class _Run:
    """What the parts of a run share."""

    material: Material
    folder: RunFolder
    record: RunRecord
    events: EventStream | None
    checkpoint_seconds: float | None


def _fit(run: _Run, checkpoint: Path | None, reporter: Reporter) -> Fit:
    """Train on the base, in the recipe's precision."""
    material, table = run.material, run.material.recipe.training
    dtype = precision(table.precision)
    base = material.model if material.model.dtype == dtype else load_model(material.base, dtype)
    adapter = attach(base, material.config, material.layers, dropout=table.dropout, seed=table.seed)
    try:
        model = _model(material, base, adapter)
        examples = _training_examples(material, model, reporter)
        with recomputed_layers(base, wanted=table.gradient_checkpointing):
            return _fit_model(run, model, examples, checkpoint, reporter)
    finally:
        adapter.detach()


def _model(material: Material, base: PreTrainedModel, adapter: AttachedAdapter) -> AdaptedModel:
    table, classifier = material.recipe.training, material.recipe.classifier
    if classifier is None:
        return LanguageModel(base, adapter, label_smoothing=table.label_smoothing)
    weights = None
    if table.class_weights is not None:
        weights = class_weights(table.class_weights, classifier, (one.labels for one in material.train.examples))
    return ClassifierModel(base, adapter, label_smoothing=table.label_smoothing, class_weights=weights)


def _fit_model(
    run: _Run, model: AdaptedModel, examples: list[Example], checkpoint: Path | None, reporter: Reporter
) -> Fit:
    table, deciding = run.material.recipe.training, deciding_score(run.material.recipe.classifier)
    patience = table.early_stopping_patience
    arguments = training_arguments(table, run.folder.path, deciding, len(examples))

    def score() -> Scores:
        return score_model(run.material, model).scores

    resumed = 0 if checkpoint is None else checkpoint_step(checkpoint)
    with reporter.training() as progress, open_recorder(run.folder.history, run.events, resumed) as recorder:
        report = StepReport(progress, recorder, _about(run.material, run.record))
        return fit(
            *(model, examples, score, arguments, progress, checkpoint, patience, report),
            checkpoint_seconds=run.checkpoint_seconds,
            collator=_collator(run.material, model),
        )


def _collator(material: Material, model: AdaptedModel) -> Collator:
    """Return what makes a batch of examples, several texts to a row if the recipe says so."""
    if not material.recipe.training.packing or not isinstance(model, LanguageModel):
        return collate
    require_exact_packing(model, material.train.examples, material.base.name)
    return PackedCollator(material.recipe.data.max_length)


def _about(material: Material, record: RunRecord) -> Started:
    """Return what a run's first event says; the numbers of steps and epochs are not known yet."""
    deciding = deciding_score(material.recipe.classifier)
    return Started(
        name=material.recipe.name,
        task=material.recipe.task,
        steps=0,
        epochs=0,
        train_examples=len(material.train.examples),
        valid_examples=len(material.eval.examples),
        score_name=deciding.name,
        greater_is_better=deciding.greater_is_better,
        base=None if record.base is None else record.base.scores,
        linear_classifier=None if record.probe is None else record.probe.scores,
    )


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
