"""Who hears that the catalog has changed: one observer, told of each change once it is committed.

Owns the kinds of change and the moment to report them. What follows from a change is the observer's.
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
    """What has become of an adapter's name."""

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
"""Called with tenant, name and what has changed, in the thread that changed it; it must not wait for anything."""


def note(session: Session, adapter: AdapterRow, change: Change) -> None:
    """Note a change of an adapter; call it within the transaction that makes it."""
    session.info.setdefault(_NOTED, []).append((adapter.tenant, adapter.name, change))


class Changes:
    """Transactions that change the catalog. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._on_changed: OnChanged = lambda *_: None
        self._log = get_logger("catalog")

    def watch(self, on_changed: OnChanged) -> None:
        """Have a function told of each change from now on; what fails in it is logged and undoes nothing."""
        self._on_changed = on_changed

    @contextmanager
    def writing(self, tenant: str = SERVER) -> Iterator[Session]:
        """Give a session as `database.writing` does, and report what was noted in it once that is committed.

        It is reported too where nobody knows whether it was committed.
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
            except Exception:  # noqa: BLE001 - the change is made, whatever its observer does
                self._log.exception("an observer of the catalog failed", tenant=tenant, adapter=name, change=change)
