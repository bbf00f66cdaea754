"""The audit as administrators read it."""

from sqlalchemy import Engine

from headmix_server.core.database import AuditEntry, audit_entries, reading


class AuditLog:
    """Every change, newest first. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def entries(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditEntry, ...]:
        """Return up to `limit` changes, of one tenant or all, older than the one numbered `before`."""
        with reading(self._engine) as session:
            return audit_entries(session, tenant=tenant, before=before, limit=limit)
