"""What a job is: its kind, its states, what happens in it. Values only; `jobs` and `claims` own the changes."""

from dataclasses import dataclass, fields
from typing import Literal, cast

from sqlalchemy.orm import load_only

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
class JobHead:
    """Where a job stands, for code that looks at many jobs, or often: without the JSON, which may be large."""

    id: str
    tenant: str
    kind: Kind
    state: State
    wanted: Wanted | None
    owner: str | None
    beats: int
    seconds: float
    created: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobHead):
    """One job as it was read; for the columns see `JobRow`. `request`, `progress`, `result`, `error` are JSON."""

    base: str | None
    request: str
    progress: str
    result: str | None
    error: str | None
    attempts: int
    worked: float
    started: int | None
    finished: int | None


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


HEAD_ONLY = load_only(*(getattr(JobRow, field.name) for field in fields(JobHead)), raiseload=True)
"""The option of a query whose rows are read with `head_of`."""


def head_of(row: JobRow) -> JobHead:
    """Return where the job in a row stands."""
    return JobHead(**{field.name: getattr(row, field.name) for field in fields(JobHead)})


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
