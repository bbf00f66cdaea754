"""Owns the types of fine-tuning jobs. Times are Unix seconds."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from headmix.types.result import Part, Result

Ended = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses in which nothing more happens to a job."""


class Hyperparameters(TypedDict, total=False):
    """Figures, or `auto`."""

    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]


class Canary(TypedDict):
    """Publish as a canary that gets a percentage of the name's requests."""

    canary: int


class JobOptions(TypedDict, total=False):
    """What OpenAI's API has no word for; docs/api.md explains each."""

    task: Literal["classification", "generation"]
    labels: list[str]
    problem: Literal["single_label", "multi_label", "regression"]
    preset: str
    ranks: Mapping[str, int] | int
    sites: list[str]
    publish: Literal["current", "beside"] | Canary
    ignore: list[str]
    max_length: int


class JobError(Part):
    """Why a job failed; `faults` are those of its data, each with its line."""

    code: str
    message: str
    param: str | None = None
    faults: tuple[str, ...] = ()


class JobProgress(Part):
    """How far training has come; None where it is unknown."""

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    seconds_left: float | None = None
    train_loss: float | None = None
    valid_loss: float | None = None


class JobDetails(Part):
    """The adapter's name and task, the progress, and the scores on the held-out data."""

    name: str = ""
    task: str | None = None
    preset: str | None = None
    publish: str = "current"
    examples: int | None = None
    progress: JobProgress = JobProgress()
    scores: Mapping[str, Mapping[str, float]] = {}
    warnings: tuple[str, ...] = ()


class FineTuningJob(Result):
    """A job; `fine_tuned_model` is `name@version` once it has succeeded."""

    id: str
    status: str
    model: str
    created_at: int
    finished_at: int | None = None
    fine_tuned_model: str | None = None
    error: JobError | None = None
    hyperparameters: Mapping[str, Any] = {}
    seed: int
    training_file: str
    validation_file: str | None = None
    result_files: tuple[str, ...] = ()
    trained_tokens: int | None = None
    estimated_finish: int | None = None
    metadata: Mapping[str, str] | None = None
    headmix: JobDetails = JobDetails()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in Ended


class FineTuningJobList(Part):
    """The response body around jobs."""

    data: tuple[FineTuningJob, ...]
    has_more: bool = False


class FineTuningEvent(Result):
    """Something that happened in a job; `data` are a step's figures if `type` is `metrics`."""

    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: Mapping[str, Any] | None = None


class FineTuningEventList(Part):
    """The response body around events."""

    data: tuple[FineTuningEvent, ...]
    has_more: bool = False
