"""What a job is: its kind, its states, what happens in it. Values only; `jobs` and `claims` own the changes."""

from dataclasses import dataclass, fields
from typing import Literal, cast

from headmix_server.jobs.tables import JobCheckpointRow, JobEventRow, JobRow

Kind = Literal["fine_tuning", "batch"]
State = Literal[
    "validating", "queued", "running", "paused", "publishing", "succeeded", "failed", "cancelled", "expired"
]
"""`validating`: the server reads the files; `queued`: for a worker; `running`: a worker has claimed it; `publishing`:
the worker is done, and the server makes the result available."""
Wanted = Literal["cancel", "pause"]
Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]

ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as it was read; for the columns see `JobRow`. `request`, `progress`, `result`, `error` are JSON."""

    id: str
    tenant: str
    kind: Kind
    state: State
    wanted: Wanted | None
    base: str | None
    request: str
    progress: str
    result: str | None
    error: str | None
    owner: str | None
    beats: int
    seconds: float
    attempts: int
    worked: float
    created: int
    started: int | None
    finished: int | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something to record of a job; `data` is JSON."""

    message: str
    level: Level = "info"
    type: EventType = "message"
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """A recorded event; a job's events are numbered from 1 without a gap."""

    job_id: str
    number: int
    level: Level
    type: EventType
    message: str
    data: str | None
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A state to go on from after `step` steps; `digest` is None once its bytes are not kept. `metrics` is JSON."""

    id: str
    job_id: str
    step: int
    digest: str | None
    size_bytes: int
    metrics: str
    created: int


def job_of(row: JobRow) -> Job:
    """Return the job in a row."""
    return Job(**{field.name: getattr(row, field.name) for field in fields(Job)})


def event_of(row: JobEventRow) -> JobEvent:
    """Return the event in a row."""
    return JobEvent(
        job_id=row.job_id,
        number=row.number,
        level=cast("Level", row.level),
        type=cast("EventType", row.type),
        message=row.message,
        data=row.data,
        created=row.created,
    )


def checkpoint_of(row: JobCheckpointRow) -> Checkpoint:
    """Return the checkpoint in a row."""
    return Checkpoint(
        id=row.id,
        job_id=row.job_id,
        step=row.step,
        digest=row.digest,
        size_bytes=row.size_bytes,
        metrics=row.metrics,
        created=row.created,
    )
