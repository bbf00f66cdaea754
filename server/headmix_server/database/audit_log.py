"""The audit as administrators read it, and how long its rows are kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from headmix_server.core.observability.logging import get_logger
from headmix_server.database import AuditEntry, audit_entries, outdated_audit, reading, remove_audit, writing

DAY_SECONDS = 24 * 3600
BATCH = 1000
"""Rows that are removed per transaction; it bounds how long other writers wait."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: the changes of the last `days`, and of those the newest `rows`; 0 means no limit."""

    days: int = 0
    rows: int = 0


class AuditLog:
    """Every change, newest first. Safe to use from many threads; `clock` returns Unix seconds."""

    def __init__(
        self, engine: Engine, retention: Retention | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._retention = retention or Retention()
        self._clock = clock

    def entries(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditEntry, ...]:
        """Return up to `limit` changes, of one tenant or all, older than the change numbered `before`."""
        with reading(self._engine) as session:
            return audit_entries(session, tenant=tenant, before=before, limit=limit)

    def trim(self) -> None:
        """Remove the changes that are no longer kept, oldest first."""
        days, rows = self._retention.days, self._retention.rows
        if not days and not rows:
            return
        before = int(self._clock()) - days * DAY_SECONDS if days else 0
        removed = 0
        while True:
            with reading(self._engine) as session:
                outdated = outdated_audit(session, before=before, rows=rows, most=BATCH)
            if not outdated:
                break
            with writing(self._engine) as session:
                remove_audit(session, outdated)
            removed += len(outdated)
        if removed:
            get_logger("audit").info("old rows of the audit removed", rows=removed)
