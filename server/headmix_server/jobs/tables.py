"""The tables of jobs: what a tenant wants done, who does it, and what has happened. Rows only."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class JobRow(Base):
    """One job: `kind` is `fine_tuning` or `batch`; `request`, `progress`, `result` and `error` are JSON.

    `owner` is the secret name of the worker that has claimed it, which increments `beats` at a steady pace; another may
    take the job once the count has not changed for `seconds`, so clocks are never compared (as with the server's
    lease). `attempts` counts the claims since the job last got ahead or was given back in order, and `worked` the
    seconds that workers have spent on it. `wanted` is what the tenant last asked of it (`cancel`, `pause`), which the
    worker reads when it renews its claim. `base` is the fingerprint of the base it needs, null if any worker can do it.
    Times are Unix seconds.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "tenant", "kind", "created", "id"),
        Index(None, "tenant", "state"),
        Index(None, "kind", "state", "created"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    kind: Mapped[str]
    state: Mapped[str]
    wanted: Mapped[str | None]
    base: Mapped[str | None]
    request: Mapped[str]
    progress: Mapped[str]
    result: Mapped[str | None]
    error: Mapped[str | None]
    owner: Mapped[str | None]
    beats: Mapped[int]
    seconds: Mapped[float]
    attempts: Mapped[int]
    worked: Mapped[float]
    created: Mapped[int]
    started: Mapped[int | None]
    finished: Mapped[int | None]


class JobEventRow(Base):
    """One event of a job, numbered from 1; `data` is JSON (a step's figures) or null."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[str | None]
    created: Mapped[int]


class JobCheckpointRow(Base):
    """A state that a job can go on from, and its figures as JSON.

    `digest` says where its bytes are among the stored files; it is null once they are not kept any more.
    """

    __tablename__ = "job_checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    step: Mapped[int]
    digest: Mapped[str | None] = mapped_column(index=True)
    size_bytes: Mapped[int]
    metrics: Mapped[str]
    created: Mapped[int]
