"""Runs a sweep: every candidate in turn, then the best one's artifact takes its place.

The best is the one with the best held-out score, so that score is slightly better than new texts would give; the
artifact's header has the scores of all.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from headmix_adapters.artifact import digest_file, open_artifact, verify_artifact
from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.train.adapter_spec import adapted_layers, adapter_config
from headmix_adapters.train.checkpoints.run_folder import RunFolder, RunRecord
from headmix_adapters.train.errors import DivergedError, TargetError
from headmix_adapters.train.history.event_log import EventLog, RunEvents
from headmix_adapters.train.history.events import Diverged, Done
from headmix_adapters.train.history.history import history_path, read_history, write_history
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import identity_of, score_references, train_adapter
from headmix_adapters.train.save import Result, recordable
from headmix_adapters.train.scoring.evaluate import DecidingScore, Evaluation, deciding_score
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.sweep.grid import Candidate
from headmix_adapters.train.sweep.sweep_folder import Outcome, SweepFolder


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The outcome of every run, and the best one as the result of the whole; its artifact is in its place."""

    outcomes: list[tuple[Candidate, Outcome]]
    best: Candidate
    result: Result


def run_sweep(
    material: Material,
    runs: list[Candidate],
    artifact: Path,
    *,
    resume: bool,
    reporter: Reporter,
    force: bool = False,
    events: EventLog | None = None,
    checkpoint_seconds: float | None = None,
) -> SweepResult:
    """Train every candidate and write the best adapter to `artifact`; the options are those of `train_adapter`.

    `events` receives what happens in each run, up to its end, with the run's name.

    Raises:
        Interrupted: Ctrl-C during training; `resume=True` continues.
        TargetError: an artifact or an unfinished sweep is in the way, or there is none to resume.
        DivergedError: every run diverged.
        TrainError: training failed.
    """
    folder, target = SweepFolder(artifact), RunFolder(artifact)
    folder.require_startable(resume=resume)
    with folder.locked():
        record = _open_sweep(folder, material, resume=resume, reporter=reporter)
        target.require_replaceable(record if resume else None, force=force)
        outcomes = []
        for candidate in runs:
            stream = None if events is None else RunEvents(events, candidate.name)
            outcome = folder.outcome(candidate)
            if outcome is None:
                reporter.say(f"run {candidate.number} of {len(runs)}: {candidate.label}")
                outcome = _run(folder, material, candidate, record, reporter, stream, checkpoint_seconds)
                folder.end(candidate, outcome)
            if stream is not None:
                stream.write(_end_event(folder.artifact_of(candidate), outcome))
            outcomes.append((candidate, outcome))
        best, outcome, scored = _best(outcomes, deciding_score(material.recipe.classifier))
        target.require_replaceable(record, force=force)
        digest = _publish(folder, material, best, outcomes, artifact)
        folder.remove()
    result = Result(
        artifact=artifact,
        digest=digest,
        adapter=scored,
        steps=outcome.steps,
        base=record.base,
        probe=record.probe,
        below_base=outcome.below_base,
        warnings=outcome.warnings,
        advice=outcome.advice,
    )
    return SweepResult(outcomes, best, result)


def _open_sweep(folder: SweepFolder, material: Material, *, resume: bool, reporter: Reporter) -> RunRecord:
    identity = identity_of(material)
    if resume:
        record = folder.record()
        if record.identity != identity:
            raise TargetError(
                f"the sweep in {folder.path} had another recipe, other data or another base: delete the folder"
            )
        return record
    base, probe = score_references(material, reporter)
    replaces = digest_file(folder.artifact) if folder.artifact.exists() else None
    record = RunRecord(identity=identity, base=base, probe=probe, replaces=replaces)
    folder.start(record)
    return record


def _run(
    folder: SweepFolder,
    material: Material,
    candidate: Candidate,
    record: RunRecord,
    reporter: Reporter,
    events: RunEvents | None,
    checkpoint_seconds: float | None,
) -> Outcome:
    """Train one candidate, from its own checkpoint if it has one."""
    own = _material_of(material, candidate)
    path = folder.artifact_of(candidate)
    path.unlink(missing_ok=True)  # of a run that was killed before its outcome was recorded
    try:
        result = train_adapter(
            own,
            path,
            resume=RunFolder(path).last_checkpoint() is not None,
            reporter=reporter,
            references=(record.base, record.probe),
            events=events,
            checkpoint_seconds=checkpoint_seconds,
        )
    except DivergedError as error:
        reporter.say(f"diverged: {error}")
        return Outcome(diverged=str(error), steps=error.step)
    return Outcome(result.digest, result.adapter, result.steps, result.below_base, result.warnings, result.advice)


def _end_event(artifact: Path, outcome: Outcome) -> Done | Diverged:
    """Return the last event of a run."""
    if outcome.adapter is None:
        return Diverged(status=None, step=outcome.steps, message=outcome.diverged)
    return Done(
        artifact=str(artifact),
        digest=outcome.digest,
        steps=outcome.steps,
        scores=outcome.adapter.scores,
        below_base=outcome.below_base,
    )


def _material_of(material: Material, candidate: Candidate) -> Material:
    """Return the material with the candidate's recipe; base and data are the same."""
    recipe, shape = candidate.recipe, material.base.shape
    config = adapter_config(recipe, shape, material.config.chat_template)
    config = msgspec.structs.replace(config, examples=material.config.examples)
    return replace(material, recipe=recipe, config=config, layers=adapted_layers(recipe, shape))


def _best(outcomes: list[tuple[Candidate, Outcome]], deciding: DecidingScore) -> tuple[Candidate, Outcome, Evaluation]:
    """Return the run with the best score, the first of equals.

    Raises:
        DivergedError: every run diverged.
    """
    best: tuple[Candidate, Outcome, Evaluation] | None = None
    for candidate, outcome in outcomes:
        adapter = outcome.adapter
        if adapter is not None and (best is None or deciding.is_worse(best[2].scores, adapter.scores)):
            best = candidate, outcome, adapter
    if best is None:
        raise DivergedError(0, f"every run of the sweep diverged; the first: {outcomes[0][1].diverged}")
    return best


def _publish(
    folder: SweepFolder,
    material: Material,
    best: Candidate,
    outcomes: list[tuple[Candidate, Outcome]],
    artifact: Path,
) -> str:
    """Write the best run's adapter to the sweep's artifact, with all runs' scores in its header; return its digest."""
    source = folder.artifact_of(best)
    config = open_artifact(source).config
    training = recordable(config.training | {"sweep": [_record(candidate, outcome) for candidate, outcome in outcomes]})
    draft = artifact.with_name(f".{artifact.name}.draft")
    try:
        write_artifact(draft, msgspec.structs.replace(config, training=training), load_tensors(source))
        verify_artifact(draft, base=material.base.shape)
        history_path(artifact).unlink(missing_ok=True)
        draft.replace(artifact)
        sync_path(artifact.parent)
    finally:
        draft.unlink(missing_ok=True)
    write_history(history_path(artifact), read_history(history_path(source)))
    return digest_file(artifact)


def _record(candidate: Candidate, outcome: Outcome) -> dict[str, Any]:
    scores = {"diverged": True} if outcome.adapter is None else {"scores": outcome.adapter.scores}
    return {**candidate.values, **scores}
