"""A tenant's batches as it sees them: created, listed, cancelled. They run elsewhere (`run`)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from headmix_server.batches.line import ENDPOINTS
from headmix_server.batches.request import (
    ENDS,
    KIND,
    BatchRequest,
    Progress,
    read_progress,
    read_request,
    written,
)
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import InvalidRequest, NotFound, RateLimitExceeded
from headmix_server.database import audit, reading, writing
from headmix_server.files.references import hold_file
from headmix_server.files.stored_file import Purpose
from headmix_server.jobs.changes import change_state, read_job
from headmix_server.jobs.job import ENDED, Job
from headmix_server.jobs.jobs import ID_PREFIXES, Jobs
from headmix_server.jobs.tables import JobRow

UNITS: Mapping[str, int] = {"m": 60, "h": 3600, "d": 86400}
LONGEST_WINDOW = 30 * 86400
MOST_OPEN = 1000
"""The most batches of a tenant that have not ended: each is a row, and its input is kept."""

NO_QUOTA = Quota()

Standing = Literal["queued", "running"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
"""The states of a batch whose lines are still to be answered."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as read from its job."""

    job: Job
    request: BatchRequest
    progress: Progress

    @property
    def status(self) -> str:
        """The status in OpenAI's words."""
        if self.progress.status in ENDS or (self.job.wanted != "cancel" and not self.job.has_ended):
            return self.progress.status
        return "failed" if self.job.has_ended else "cancelling"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What a client asks for; `output_seconds` is how long its results are kept, None means no end."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    output_seconds: int | None


class Batches:
    """All batches. Safe to use from many threads; methods block. `clock` returns Unix seconds."""

    def __init__(self, engine: Engine, jobs: Jobs, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._jobs = jobs
        self._clock = clock

    def create(self, tenant: str, new: NewBatch, *, key_id: str | None, actor: str, quota: Quota = NO_QUOTA) -> Batch:
        """Create a batch over a file of the tenant's, which it keeps even if the file is deleted.

        Raises:
            InvalidRequest: the endpoint, the window or the file is not one that a batch can have.
            NotFound: the tenant has no such file.
            RateLimitExceeded: too many of its batches have not ended, or it has no room for results.
        """
        if new.endpoint not in ENDPOINTS:
            raise InvalidRequest(f"endpoint takes {', '.join(ENDPOINTS)}.", param="endpoint")
        expires = int(self._clock()) + window_seconds(new.completion_window)
        request = BatchRequest(
            input_file_id=new.input_file_id,
            endpoint=new.endpoint,
            completion_window=new.completion_window,
            expires=expires,
            metadata=new.metadata,
            output_seconds=new.output_seconds,
            key_id=key_id,
        )

        def hold(session: Session, job_id: str) -> None:
            _check_open(session, tenant)
            quota.check_new_job(session, tenant)
            file = hold_file(session, tenant, new.input_file_id, holder=job_id)
            if file.purpose != Purpose.BATCH:
                raise InvalidRequest(
                    f"The file has the purpose {file.purpose.value!r}, not 'batch'.", param="input_file_id"
                )
            audit(session, actor, tenant, "batch.create", job_id, file=file.id, endpoint=new.endpoint)

        return batch_of(self._jobs.create(tenant, KIND, written(request), in_transaction=hold))

    def unanswered(self) -> Mapping[Standing, int]:
        """Return how many lines have no answer yet, by whether their batches of all tenants run or are queued.

        Batches whose file is not checked yet have no lines, and those that end early need no answers any more.
        """
        query = select(JobRow.progress).where(JobRow.kind == KIND)
        with reading(self._engine) as session:
            return {
                standing: sum(
                    read_progress(text).unanswered for text in session.scalars(query.filter_by(state=standing))
                )
                for standing in STANDINGS
            }

    def get(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            NotFound: the tenant has none of this id.
        """
        job = self._jobs.get(tenant, batch_id) if batch_id.startswith(ID_PREFIXES[KIND]) else None
        if job is None or job.kind != KIND:
            raise no_such_batch(batch_id)
        return batch_of(job)

    def list(self, tenant: str, *, after: str | None = None, limit: int = 20) -> tuple[Batch, ...]:
        """Return up to `limit` batches, newest first, those that follow the batch `after`.

        Raises:
            InvalidRequest: the tenant has no batch `after`.
        """
        return tuple(map(batch_of, self._jobs.list(tenant, KIND, after=after, limit=limit)))

    def cancel(self, tenant: str, batch_id: str, *, actor: str) -> Batch:
        """Cancel a batch: lines that are answered already are kept. Repeating it changes nothing.

        Raises:
            NotFound: the tenant has no such batch.
            InvalidRequest: it has ended otherwise.
        """
        before = self.get(tenant, batch_id)
        if before.job.state == "cancelled":
            return before
        with writing(self._engine, tenant) as session:
            job = read_job(session, JobRow.id == batch_id, JobRow.tenant == tenant)
            if job is None:
                raise no_such_batch(batch_id)
            if job.has_ended and job.state != "cancelled":
                raise InvalidRequest(f"A batch that is {batch_of(job).status} cannot be cancelled.", param="batch_id")
            if job.wanted is None:
                audit(session, actor, tenant, "batch.cancel", batch_id)
                self._cancel(session, job)
        return self.get(tenant, batch_id)

    def _cancel(self, session: Session, job: Job) -> None:
        now = int(self._clock())
        if job.started is not None:  # it may have answered lines, which are still to become its files
            session.execute(update(JobRow).where(JobRow.id == job.id).values(wanted="cancel"))
            return
        reached = {"cancelling": now, "cancelled": now}
        progress = Progress(status="cancelled", ending="cancelled", reached=reached)
        change_state(session, job.id, "cancelled", now=now, progress=written(progress))


def _check_open(session: Session, tenant: str) -> None:
    unfinished = JobRow.tenant == tenant, JobRow.kind == KIND, JobRow.state.not_in(ENDED)
    count = session.scalars(select(func.count()).select_from(JobRow).where(*unfinished)).one()
    if count >= MOST_OPEN:
        raise RateLimitExceeded(
            f"The tenant has {count} batches that have not ended, the most allowed.", limit="batches"
        )


def batch_of(job: Job) -> Batch:
    """Return the batch of a job."""
    return Batch(job, read_request(job.request), read_progress(job.progress))


def no_such_batch(batch_id: str) -> NotFound:
    """Return the error for an id that is no batch of the tenant's."""
    return NotFound(f"There is no batch {batch_id[:64]!r}.", param="batch_id")


def window_seconds(window: str) -> int:
    """Return how long a batch may take.

    Raises:
        InvalidRequest: it is malformed or too long.
    """
    number, unit = window[:-1], UNITS.get(window[-1:], 0)
    seconds = int(number) * unit if number.isascii() and number.isdecimal() and len(number) <= 6 else 0
    if not 0 < seconds <= LONGEST_WINDOW:
        raise InvalidRequest(
            "completion_window takes minutes, hours or days, up to 30 days, such as '24h'.", param="completion_window"
        )
    return seconds
