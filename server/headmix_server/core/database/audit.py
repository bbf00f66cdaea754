"""The audit: who changed what and when, one row in the same transaction as each change.

Owns the table and how it is written and read; what counts as a change, those who make it know.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Integer, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headmix_server.core.database.base import Base

SERVER = "server"
"""The actor of what no key asked for: the first start, the preload folder, what the command line of the server says."""


class AuditRow(Base):
    """One change. It refers to nothing, so that it outlives what it tells of."""

    __tablename__ = "audit"

    # SQLite numbers rows by itself only where the key is a plain INTEGER, which has 64 bits there.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    at: Mapped[int]
    actor: Mapped[str]
    tenant: Mapped[str] = mapped_column(index=True)
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change, as it is shown: `actor` is a key's id or `server`, `at` in Unix seconds."""

    number: int
    at: int
    actor: str
    tenant: str
    action: str
    subject: str
    detail: dict[str, Any]


def audit(session: Session, actor: str, tenant: str, action: str, subject: str, **detail: object) -> None:
    """Note a change of a tenant's; call it within the transaction that makes it. `detail` is JSON-ready."""
    text = json.dumps(detail, sort_keys=True)
    session.add(AuditRow(at=int(time.time()), actor=actor, tenant=tenant, action=action, subject=subject, detail=text))


def audit_entries(
    session: Session, *, tenant: str | None = None, before: int | None = None, limit: int
) -> tuple[AuditEntry, ...]:
    """Return the newest changes first, of one tenant or all; `before` is the `number` to go on from."""
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
