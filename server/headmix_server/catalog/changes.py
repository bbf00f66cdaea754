"""Reports changes of the catalog to one observer, each once it is committed.

Owns the kinds of changes and when they are reported. Their consequences are the observer's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from headmix_server.catalog.tables import AdapterRow
from headmix_server.core.errors import StorageUnavailable
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.turns import SERVER
from headmix_server.database import writing

_NOTED = "headmix.changes"


class Change(StrEnum):
    """What happened to an adapter's name."""

    PUBLISHED = "published"
    ROLLED_BACK = "rolled back"
    DELETED = "deleted"
    VERSION_READY = "version ready"
    VERSION_RETIRED = "version retired"
    VERSION_DELETED = "version deleted"
    CANARY_STARTED = "canary started"
    CANARY_RESIZED = "canary resized"
    CANARY_ENDED = "canary ended"
    CANARY_PROMOTED = "canary promoted"
    SHARED = "shared"
    PINNED = "pinned"
    UNPINNED = "unpinned"


OnChanged = Callable[[str, str, Change], None]
"""Called with tenant, name and change, in the thread that made the change; it must not block."""


def note(session: Session, adapter: AdapterRow, change: Change) -> None:
    """Record a change of an adapter; call it within the transaction that makes the change."""
    session.info.setdefault(_NOTED, []).append((adapter.tenant, adapter.name, change))


class Changes:
    """Transactions that change the catalog. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._on_changed: OnChanged = lambda *_: None
        self._log = get_logger("catalog")

    def watch(self, on_changed: OnChanged) -> None:
        """Call `on_changed` with each change from now on; its failures are logged and undo nothing."""
        self._on_changed = on_changed

    @contextmanager
    def writing(self, tenant: str = SERVER) -> Iterator[Session]:
        """Yield a session as `database.writing` does, and report the changes recorded in it once it is committed.

        They are also reported if it is unknown whether the transaction was committed.
        """
        noted: list[tuple[str, str, Change]] = []
        try:
            with writing(self._engine, tenant) as session:
                yield session
                noted = session.info.pop(_NOTED, noted)
        except StorageUnavailable:
            self._report(noted)
            raise
        self._report(noted)

    def _report(self, noted: list[tuple[str, str, Change]]) -> None:
        for tenant, name, change in noted:
            try:
                self._on_changed(tenant, name, change)
            except Exception:  # noqa: BLE001 - the change is made, whatever the observer does
                self._log.exception("an observer of the catalog failed", tenant=tenant, adapter=name, change=change)
