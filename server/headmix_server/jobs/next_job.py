"""Which queued job a worker takes next: of the tenant that has had least, the oldest. One query for both databases."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select

from headmix_server.jobs.job import Kind
from headmix_server.jobs.tables import JobRow

DAY_SECONDS = 24 * 3600


class Had(NamedTuple):
    """What a tenant has had: in this order, less of it comes first."""

    running: int
    worked: float


NOTHING_HAD = Had(0, 0.0)


def had_by_tenant(kinds: Collection[Kind], *, now: int) -> Select[str, int, float]:
    """Return the query for the tenants with a job that runs or is of the last day, and what each has had."""
    recent = or_(JobRow.created >= now - DAY_SECONDS, JobRow.state == "running")
    return (
        select(
            JobRow.tenant,
            func.sum(case((JobRow.state == "running", 1), else_=0)).label("running"),
            func.sum(JobRow.worked).label("worked"),
        )
        .where(JobRow.kind.in_(kinds), recent)
        .group_by(JobRow.tenant)
    )


def next_job(kinds: Collection[Kind], base: str | None, *, now: int, last: Sequence[str] = ()) -> Select[JobRow]:
    """Return the query for the next job that a worker of the kinds and the base may take.

    A tenant has had less than another if fewer of its jobs run, or else if workers have spent less time on its jobs of
    the last day. The jobs whose ids are in `last` come after all others, in that order.
    """
    had = had_by_tenant(kinds, now=now).subquery()
    fits = or_(JobRow.base.is_(None), JobRow.base == base)
    return (
        select(JobRow)
        .outerjoin(had, had.c.tenant == JobRow.tenant)
        .where(and_(JobRow.kind.in_(kinds), JobRow.state == "queued", fits))
        .order_by(
            *([_rank(last)] if last else []),
            func.coalesce(had.c.running, 0),
            func.coalesce(had.c.worked, 0.0),
            JobRow.created,
            JobRow.id,
        )
        .limit(1)
    )


def _rank(last: Sequence[str]) -> ColumnElement[int]:
    return case({job_id: rank for rank, job_id in enumerate(last, 1)}, value=JobRow.id, else_=0)
