"""The changes of a job's rows that tenant, worker and server share; each is part of the caller's transaction.

Which changes are allowed when is up to the callers.
"""

import secrets
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from headmix_server.database import SERVER, audit
from headmix_server.files.references import bury, release_holds
from headmix_server.jobs.job import ENDED, Job, NewEvent, State, Wanted, job_of
from headmix_server.jobs.tables import JobCheckpointRow, JobEventRow, JobRow

REACHED: Mapping[Wanted, State] = MappingProxyType({"cancel": "cancelled", "pause": "paused"})
"""The state that each wish of a tenant leads to."""


def read_job(session: Session, *where: ColumnElement[bool]) -> Job | None:
    """Return the job, or None if there is none."""
    row = session.scalar(select(JobRow).where(*where).execution_options(populate_existing=True))
    return None if row is None else job_of(row)


def add_events(session: Session, job_id: str, events: Iterable[NewEvent], *, now: int) -> None:
    """Record events, in order; call it within `writing`, whose lock keeps their numbers unique."""
    last = session.scalar(select(func.max(JobEventRow.number)).where(JobEventRow.job_id == job_id)) or 0
    for number, event in enumerate(events, last + 1):
        session.add(
            JobEventRow(
                job_id=job_id,
                number=number,
                level=event.level,
                type=event.type,
                message=event.message,
                data=event.data,
                created=now,
            )
        )
    session.flush()


def change_state(session: Session, job_id: str, state: State, *, now: int, **columns: object) -> None:
    """Move a job that nobody works on from now on into a state; an end releases the bytes that were kept for it.

    A failure is audited here, since worker and server both end jobs so; other changes by those who ask for them.
    """
    values: dict[str, object] = {"state": state, "owner": None, **columns}
    if state in ENDED:
        values |= {"wanted": None, "finished": now}
        keep_checkpoints(session, job_id, 0)
        release_holds(session, job_id)
    session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))
    if state == "failed":
        job = session.execute(select(JobRow.tenant, JobRow.kind).where(JobRow.id == job_id)).one()
        audit(session, SERVER, job.tenant, f"{job.kind}.fail", job_id)


def keep_checkpoints(session: Session, job_id: str, count: int) -> None:
    """Release the bytes of all but the job's newest checkpoints; their rows remain."""
    stored = select(JobCheckpointRow.id, JobCheckpointRow.digest).where(
        JobCheckpointRow.job_id == job_id, JobCheckpointRow.digest.is_not(None)
    )
    newest_first = stored.order_by(JobCheckpointRow.step.desc(), JobCheckpointRow.created.desc(), JobCheckpointRow.id)
    outdated = session.execute(newest_first).all()[count:]
    ids, digests = [row.id for row in outdated], [row.digest for row in outdated]
    session.execute(update(JobCheckpointRow).where(JobCheckpointRow.id.in_(ids)).values(digest=None))
    bury(session, *digests)


def new_id(prefix: str) -> str:
    """Return an id that no other row has."""
    return prefix + secrets.token_hex(12)
