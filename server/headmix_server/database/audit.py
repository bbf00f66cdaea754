"""The audit: who changed what and when, in a row of the same transaction as the change.

Owns the table and how it is written and read; which changes are recorded is up to the code that makes them.
"""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Integer, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headmix_server.database.base import Base

SERVER = "server"
"""The actor of changes made without a key: by the first start, the preload folder, or the server's command line."""


class AuditRow(Base):
    """One change. It references no other table, so that it outlives what it describes."""

    __tablename__ = "audit"

    # SQLite only assigns keys by itself if the column is a plain INTEGER, which has 64 bits there.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    at: Mapped[int]
    actor: Mapped[str]
    tenant: Mapped[str] = mapped_column(index=True)
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change as it is shown: `actor` is a key's id or `server`, `at` is in Unix seconds."""

    number: int
    at: int
    actor: str
    tenant: str
    action: str
    subject: str
    detail: dict[str, Any]


def audit(session: Session, actor: str, tenant: str, action: str, subject: str, **detail: object) -> None:
    """Record a change of a tenant's; call it within the transaction that makes it. `detail` is JSON-ready."""
    text = json.dumps(detail, sort_keys=True)
    session.add(AuditRow(at=int(time.time()), actor=actor, tenant=tenant, action=action, subject=subject, detail=text))


def outdated_audit(session: Session, *, before: int, rows: int, most: int) -> tuple[int, ...]:
    """Return the numbers of the oldest changes that are from before a time or exceed the newest `rows`, at most `most`.

    If `rows` is 0, their number is not limited.
    """
    oldest = session.execute(select(AuditRow.id, AuditRow.at).order_by(AuditRow.id).limit(most)).all()
    newest = session.scalar(select(func.max(AuditRow.id)))
    if newest is None:
        return ()
    first_kept = oldest[0].id
    # Numbers have gaps: rows are only counted if the range of numbers could hold too many.
    if rows and newest - first_kept >= rows:
        kept = select(AuditRow.id).order_by(AuditRow.id.desc()).offset(rows - 1).limit(1)
        first_kept = session.scalar(kept) or first_kept
    return tuple(row.id for row in oldest if row.at < before or row.id < first_kept)


def remove_audit(session: Session, numbers: Collection[int]) -> None:
    """Remove these changes; call it within a writing transaction."""
    session.execute(delete(AuditRow).where(AuditRow.id.in_(numbers)))


def audit_entries(
    session: Session, *, tenant: str | None = None, before: int | None = None, limit: int
) -> tuple[AuditEntry, ...]:
    """Return the newest changes first, of one tenant or all; `before` is the `number` to continue from."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(AuditRow.tenant == tenant)
    if before is not None:
        query = query.where(AuditRow.id < before)
    return tuple(
        AuditEntry(
            number=row.id,
            at=row.at,
            actor=row.actor,
            tenant=row.tenant,
            action=row.action,
            subject=row.subject,
            detail=json.loads(row.detail),
        )
        for row in session.scalars(query)
    )
