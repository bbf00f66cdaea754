"""Jobs as their tenants and the server see them: created, listed, cancelled, paused, resumed, published.

A job of another tenant does not exist. What a worker does with a job is up to `claims`.
"""

import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from sqlalchemy import Engine, func, select, tuple_, update
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidRequest, NotFound
from headmix_server.database import SERVER, audit, ensure_tenant, reading, writing
from headmix_server.jobs.changes import REACHED, add_events, change_state, new_id, read_job
from headmix_server.jobs.job import (
    ENDED,
    HEAD_ONLY,
    Checkpoint,
    Job,
    JobEvent,
    JobHead,
    Kind,
    NewEvent,
    State,
    Wanted,
    checkpoint_of,
    event_of,
    head_of,
    job_of,
)
from headmix_server.jobs.next_job import next_job
from headmix_server.jobs.tables import JobCheckpointRow, JobEventRow, JobRow

ID_PREFIXES: Mapping[Kind, str] = MappingProxyType({"fine_tuning": "ftjob-", "batch": "batch_"})

_WAITING: Mapping[Wanted, frozenset[State]] = MappingProxyType(
    {
        "cancel": frozenset[State]({"validating", "queued", "paused", "publishing"}),
        "pause": frozenset[State]({"queued"}),
    }
)
"""The states in which no worker has the job, so that a wish of its tenant is granted at once.

What the server does with a job meanwhile ends with `move`, which then finds that it has moved on.
"""

_NEWEST = 20
"""How many events are read to see what they say; a job that waits gets hardly any."""


class Jobs:
    """All jobs. Safe to use from many threads; methods block. `clock` returns Unix seconds.

    Every method raises the errors of `reading` and `writing`.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    # --- the tenant's side -------------------------------------------------------------------------------------------

    def create(
        self,
        tenant: str,
        kind: Kind,
        request: str,
        *,
        state: State = "queued",
        base: str | None = None,
        in_transaction: Callable[[Session, str], None] | None = None,
    ) -> Job:
        """Create a job; `request` is JSON, `base` the fingerprint of the base it needs.

        `in_transaction` is called with the job's id before the row is written; an error of its refuses the job.
        """
        row = JobRow(
            id=new_id(ID_PREFIXES[kind]),
            tenant=tenant,
            kind=kind,
            state=state,
            base=base,
            request=request,
            progress="{}",
            beats=0,
            seconds=0.0,
            attempts=0,
            worked=0.0,
            created=int(self._clock()),
        )
        with writing(self._engine, tenant) as session:
            ensure_tenant(session, tenant)
            if in_transaction is not None:
                in_transaction(session, row.id)
            session.add(row)
            session.flush()
            return job_of(row)

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: the tenant has none of this id.
        """
        with reading(self._engine) as session:
            return _found(session, tenant, job_id)

    def head(self, tenant: str, job_id: str) -> JobHead:
        """Return where a job stands.

        Raises:
            NotFound: the tenant has none of this id.
        """
        query = select(JobRow).options(HEAD_ONLY).where(JobRow.id == job_id, JobRow.tenant == tenant)
        with reading(self._engine) as session:
            row = session.scalar(query)
            if row is None:
                raise _no_job(job_id)
            return head_of(row)

    def list(self, tenant: str, kind: Kind, *, after: str | None = None, limit: int = 20) -> tuple[Job, ...]:
        """Return up to `limit` jobs, newest first, those that follow the job `after`.

        Raises:
            InvalidRequest: the tenant has no job `after`.
        """
        query = select(JobRow).where(JobRow.tenant == tenant, JobRow.kind == kind)
        with reading(self._engine) as session:
            if after is not None:
                last = read_job(session, JobRow.id == after, JobRow.tenant == tenant, JobRow.kind == kind)
                if last is None:
                    raise InvalidRequest(f"There is no job {after!r}.", param="after")
                query = query.where(tuple_(JobRow.created, JobRow.id) < tuple_(last.created, last.id))
            rows = session.scalars(query.order_by(JobRow.created.desc(), JobRow.id.desc()).limit(limit))
            return tuple(map(job_of, rows))

    def want(self, tenant: str, job_id: str, wanted: Wanted, *, actor: str = SERVER) -> Job:
        """Cancel or pause a job; its worker does so when it next renews its claim. Repeating it changes nothing.

        `actor` is who the audit records as having asked for it.

        Raises:
            NotFound: the tenant has no such job.
            InvalidRequest: its state rules that out.
        """
        reached = REACHED[wanted]
        with writing(self._engine, tenant) as session:
            job = _found(session, tenant, job_id)
            if job.state == reached or job.wanted == wanted:
                return job
            if job.state in _WAITING[wanted]:
                change_state(session, job.id, reached, now=self._now())
                self._record(session, job.id, NewEvent(f"The job is {reached}."))
            elif job.state == "running" and job.wanted != "cancel":
                session.execute(update(JobRow).where(JobRow.id == job.id).values(wanted=wanted))
                self._record(
                    session, job.id, NewEvent(f"The job will be {reached}; its worker stops at its next step.")
                )
            else:
                raise InvalidRequest(f"A job that is {_shown(job)} cannot be {reached}.", param="id")
            audit(session, actor, tenant, f"{job.kind}.{wanted}", job.id)
            return _found(session, tenant, job_id)

    def resume(self, tenant: str, job_id: str, *, actor: str = SERVER) -> Job:
        """Let a paused job go on from where it stopped, or take the wish to pause it back; `actor` as in `want`.

        Raises:
            NotFound: the tenant has no such job.
            InvalidRequest: it has ended, or is about to be cancelled.
        """
        with writing(self._engine, tenant) as session:
            job = _found(session, tenant, job_id)
            if job.has_ended or job.wanted == "cancel":
                raise InvalidRequest(f"A job that is {_shown(job)} cannot be resumed.", param="id")
            if job.state == "paused":
                change_state(session, job.id, "queued", now=self._now())
            elif job.wanted == "pause":
                session.execute(update(JobRow).where(JobRow.id == job.id).values(wanted=None))
            else:
                return job
            self._record(session, job.id, NewEvent("The job is resumed."))
            audit(session, actor, tenant, f"{job.kind}.resume", job.id)
            return _found(session, tenant, job_id)

    # --- what happens in a job ---------------------------------------------------------------------------------------

    def add_event(self, job_id: str, event: NewEvent) -> None:
        """Record an event of a job."""
        with writing(self._engine) as session:
            self._record(session, job_id, event)

    def events(
        self, job_id: str, *, after: int | None = None, limit: int = 20, newest_first: bool = False
    ) -> tuple[JobEvent, ...]:
        """Return up to `limit` events in order (or newest first), those that follow the event numbered `after`."""
        number = JobEventRow.number
        query = select(JobEventRow).where(JobEventRow.job_id == job_id)
        if after is not None:
            query = query.where(number < after if newest_first else number > after)
        with reading(self._engine) as session:
            rows = session.scalars(query.order_by(number.desc() if newest_first else number).limit(limit))
            return tuple(map(event_of, rows))

    def checkpoints(self, job_id: str, *, after: str | None = None, limit: int = 20) -> tuple[Checkpoint, ...]:
        """Return up to `limit` checkpoints, newest first, those that follow the checkpoint `after`.

        Raises:
            InvalidRequest: the job has no checkpoint `after`.
        """
        place = tuple_(JobCheckpointRow.step, JobCheckpointRow.id)
        query = select(JobCheckpointRow).where(JobCheckpointRow.job_id == job_id)
        with reading(self._engine) as session:
            if after is not None:
                last = session.scalar(query.where(JobCheckpointRow.id == after))
                if last is None:
                    raise InvalidRequest(f"There is no checkpoint {after!r}.", param="after")
                query = query.where(place < tuple_(last.step, last.id))
            newest_first = query.order_by(JobCheckpointRow.step.desc(), JobCheckpointRow.id.desc())
            return tuple(map(checkpoint_of, session.scalars(newest_first.limit(limit))))

    def add_event_once(self, job_id: str, event: NewEvent, *, unless: Collection[str] = ()) -> None:
        """Record an event unless one of the newest has its data, or data in `unless`: also from before a restart."""
        said = {event.data, *unless}
        if not any(one.data in said for one in self.events(job_id, limit=_NEWEST, newest_first=True)):
            self.add_event(job_id, event)

    # --- the server's side -------------------------------------------------------------------------------------------

    def in_states(self, kind: Kind, states: Collection[State], *, limit: int = 100) -> tuple[JobHead, ...]:
        """Return up to `limit` jobs of all tenants in these states, oldest first."""
        query = select(JobRow).options(HEAD_ONLY).where(JobRow.kind == kind, JobRow.state.in_(states))
        with reading(self._engine) as session:
            return tuple(map(head_of, session.scalars(query.order_by(JobRow.created, JobRow.id).limit(limit))))

    def oldest_of_each_tenant(self, kind: Kind, state: State, *, without: Collection[str] = ()) -> tuple[JobHead, ...]:
        """Return each tenant's oldest job in a state, oldest first, however many jobs a tenant has.

        The jobs whose ids are in `without` do not count.
        """
        turn = func.row_number().over(partition_by=JobRow.tenant, order_by=(JobRow.created, JobRow.id))
        waiting = JobRow.kind == kind, JobRow.state == state, JobRow.id.not_in(without)
        turns = select(JobRow.id, turn.label("turn")).where(*waiting).subquery()
        oldest = select(JobRow).options(HEAD_ONLY).join(turns, turns.c.id == JobRow.id).where(turns.c.turn == 1)
        with reading(self._engine) as session:
            return tuple(map(head_of, session.scalars(oldest.order_by(JobRow.created, JobRow.id))))

    def waits(self, kinds: Collection[Kind], base: str | None) -> bool:
        """Return whether a job is queued for a worker of these kinds that has this base."""
        with reading(self._engine) as session:
            return session.scalar(next_job(kinds, base, now=self._now()).options(HEAD_ONLY)) is not None

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return how many jobs that have not ended are in each kind and state."""
        query = select(JobRow.kind, JobRow.state, func.count()).where(JobRow.state.not_in(ENDED))
        with reading(self._engine) as session:
            rows = session.execute(query.group_by(JobRow.kind, JobRow.state)).all()
        return {(kind, state): count for kind, state, count in rows}

    def move(
        self,
        job_id: str,
        *,
        before: Collection[State],
        after: State,
        event: NewEvent | None = None,
        **columns: str | int | None,
    ) -> bool:
        """Move a job that nobody works on between states, as `move_in`, in a transaction of its own."""
        with writing(self._engine) as session:
            return self.move_in(session, job_id, before=before, after=after, event=event, **columns)

    def move_in(
        self,
        session: Session,
        job_id: str,
        *,
        before: Collection[State],
        after: State,
        event: NewEvent | None = None,
        **columns: str | int | None,
    ) -> bool:
        """Move a job from one of the states `before` into `after`; return whether it was in one, and so moved.

        Call it within `writing`. `columns` are further changes of the row.
        """
        job = read_job(session, JobRow.id == job_id, JobRow.state.in_(before), JobRow.owner.is_(None))
        if job is None:
            return False
        change_state(session, job_id, after, now=self._now(), **columns)
        if event is not None:
            self._record(session, job_id, event)
        return True

    def _record(self, session: Session, job_id: str, event: NewEvent) -> None:
        add_events(session, job_id, [event], now=self._now())

    def _now(self) -> int:
        return int(self._clock())


def _found(session: Session, tenant: str, job_id: str) -> Job:
    job = read_job(session, JobRow.id == job_id, JobRow.tenant == tenant)
    if job is None:
        raise _no_job(job_id)
    return job


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.", param="id")


def _shown(job: Job) -> str:
    return "about to be cancelled" if job.wanted == "cancel" else job.state
