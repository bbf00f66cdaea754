"""Fine-tuning jobs, their events and checkpoints in OpenAI's form."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from headmix_server.api.schemas.fine_tuning import (
    CheckpointMetrics,
    ExtensionObject,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    Hyperparameters,
    JobErrorObject,
    MethodObject,
    ProgressObject,
    Status,
    SupervisedMethod,
)
from headmix_server.fine_tuning.progress import Progress, read_progress
from headmix_server.fine_tuning.request import FineTuning, read_request
from headmix_server.fine_tuning.result import Trained, read_error, read_trained
from headmix_server.jobs.job import Checkpoint, Job, JobEvent

_STATUSES: Mapping[str, Status] = MappingProxyType(
    {"validating": "validating_files", "publishing": "running", "expired": "failed"}
)
"""States that OpenAI's API calls something else."""
_EVENT_PREFIX = "ftevent-"
_JOB_PREFIX = "ftjob-"


def job_object(job: Job, *, now: float) -> FineTuningJob:
    """Return a job as its tenant sees it; `now` is in Unix seconds."""
    request, progress = read_request(job.request), read_progress(job.progress)
    trained = None if job.result is None else read_trained(job.result)
    published = trained if job.state == "succeeded" else None
    asked = request.hyperparameters
    figures = Hyperparameters(
        n_epochs=asked.n_epochs,
        batch_size=asked.batch_size,
        learning_rate_multiplier=asked.learning_rate_multiplier,
    )
    return FineTuningJob(
        id=job.id,
        created_at=job.created,
        error=_error(job),
        fine_tuned_model=None if published is None else published.fine_tuned_model,
        finished_at=job.finished,
        hyperparameters=figures,
        model=request.base,
        organization_id=job.tenant,
        result_files=[] if published is None else [file.id for file in published.files if file.id is not None],
        seed=request.seed,
        status=_STATUSES.get(job.state, cast("Status", job.state)),
        trained_tokens=_trained_tokens(job, trained, progress),
        training_file=request.training.id,
        validation_file=None if request.validation is None else request.validation.id,
        estimated_finish=_estimated_finish(job, progress, now),
        integrations=[],
        metadata=None if request.metadata is None else dict(request.metadata),
        method=MethodObject(type=request.method, supervised=SupervisedMethod(hyperparameters=figures)),
        user_provided_suffix=request.suffix,
        headmix=_extension(request, progress, trained),
    )


def _error(job: Job) -> JobErrorObject | None:
    if job.error is None:
        return None
    error = read_error(job.error)
    return JobErrorObject(code=error.code, message=error.message, param=error.param, faults=list(error.faults))


def _trained_tokens(job: Job, trained: Trained | None, progress: Progress) -> int | None:
    if not job.has_ended:
        return None
    return progress.trained_tokens if trained is None else trained.trained_tokens


def _estimated_finish(job: Job, progress: Progress, now: float) -> int | None:
    if job.state != "running" or progress.seconds_left is None:
        return None
    return int(now + progress.seconds_left)


def _extension(request: FineTuning, progress: Progress, trained: Trained | None) -> ExtensionObject:
    how, adapter = request.publish, request.adapter if request.recipe is None else request.recipe.adapter
    return ExtensionObject(
        name=request.name,
        task=request.task,
        preset=None if adapter is None else adapter.preset,
        publish=f"canary {how.percent} %" if how.how == "canary" else how.how,
        examples=None if request.counts is None else request.counts.examples,
        progress=ProgressObject(
            step=progress.step,
            steps=progress.steps,
            epoch=progress.epoch,
            epochs=progress.epochs,
            seconds_left=progress.seconds_left,
            train_loss=progress.train_loss,
            valid_loss=progress.valid_loss,
        ),
        scores={} if trained is None else {name: dict(scores) for name, scores in trained.scores.items()},
        warnings=[] if trained is None else list(trained.warnings),
    )


def event_object(event: JobEvent) -> FineTuningEvent:
    """Return an event as the job's tenant sees it."""
    return FineTuningEvent(
        id=f"{_EVENT_PREFIX}{event.job_id.removeprefix(_JOB_PREFIX)}-{event.number}",
        created_at=event.created,
        level=event.level,
        message=event.message,
        type=event.type,
        data=None if event.data is None else json.loads(event.data),
    )


def event_number(event_id: str, job_id: str) -> int | None:
    """Return the number of the job's event of this id, or None if it is no such id."""
    number = event_id.removeprefix(f"{_EVENT_PREFIX}{job_id.removeprefix(_JOB_PREFIX)}-")
    return int(number) if number.isascii() and number.isdecimal() and len(number) <= 18 else None


def checkpoint_object(checkpoint: Checkpoint) -> FineTuningCheckpoint:
    """Return a checkpoint as the job's tenant sees it."""
    figures = {name: value for name, value in json.loads(checkpoint.metrics).items() if name in _FIGURES}
    return FineTuningCheckpoint(
        id=checkpoint.id,
        created_at=checkpoint.created,
        fine_tuned_model_checkpoint="",
        fine_tuning_job_id=checkpoint.job_id,
        metrics=CheckpointMetrics.model_validate(dict.fromkeys(_FIGURES) | figures | {"step": checkpoint.step}),
        step_number=checkpoint.step,
    )


_FIGURES = tuple(name for name in CheckpointMetrics.model_fields if name != "step")
