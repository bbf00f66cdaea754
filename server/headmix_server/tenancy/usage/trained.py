"""Tokens that fine-tuning jobs read: charged to a tenant's usage as they are trained, and summed for its limit."""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from headmix_server.tenancy.tables import UsageRow


def charge_trained(session: Session, tenant: str, adapter: str, tokens: int, *, now: float) -> None:
    """Add tokens to the usage of the day; call it within the transaction that records them as trained.

    `now` is in Unix seconds.
    """
    if tokens <= 0:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    nothing = {"requests": 0, "prompt_tokens": 0, "cached_tokens": 0, "generation_tokens": 0}
    row = {"tenant": tenant, "day": day_of(now), "adapter": adapter, "trained_tokens": tokens, **nothing}
    statement = insert(UsageRow).values(row)
    added = {"trained_tokens": UsageRow.trained_tokens + statement.excluded.trained_tokens}
    session.execute(statement.on_conflict_do_update(index_elements=["tenant", "day", "adapter"], set_=added))


def trained_today(session: Session, tenant: str, *, now: float) -> int:
    """Return the tokens that the tenant's jobs have read since the day began."""
    query = select(func.coalesce(func.sum(UsageRow.trained_tokens), 0))
    return int(session.scalars(query.where(UsageRow.tenant == tenant, UsageRow.day == day_of(now))).one())


def day_of(now: float) -> str:
    """Return the UTC day of a time in Unix seconds, such as `2026-11-24`."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
