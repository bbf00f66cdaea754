"""Pins: the names whose current version stays on the device. `services.pinning` enforces them."""

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from headmix_server.catalog.bind_base import require_accepted
from headmix_server.catalog.changes import Change, Changes, note
from headmix_server.catalog.queries import live_adapter, one, read, versions
from headmix_server.catalog.tables import AdapterRow, PinRow, VersionRow
from headmix_server.catalog.version import AdapterVersion
from headmix_server.database import SERVER, audit, reading


def unpin(session: Session, adapter: AdapterRow) -> bool:
    """Remove the adapter's pin, and return whether there was one."""
    row = session.get(PinRow, adapter.id)
    if row is not None:
        session.delete(row)
    return row is not None


class Pins:
    """All tenants' pins. Safe to use from many threads; `actor` is who the audit records."""

    def __init__(self, engine: Engine, changes: Changes) -> None:
        self._engine = engine
        self._changes = changes

    def add(self, tenant: str, name: str, *, actor: str = SERVER) -> AdapterVersion:
        """Pin a name, if it is not pinned yet, and return its current version.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
            InvalidRequest: its current version was accepted for another base.
        """
        with self._changes.writing(tenant) as session:
            adapter = live_adapter(session, tenant, name)
            require_accepted(session, one(session, tenant, name, None))
            if session.get(PinRow, adapter.id) is None:
                session.add(PinRow(adapter_id=adapter.id))
                session.flush()
                audit(session, actor, tenant, "adapter.pin", name)
                note(session, adapter, Change.PINNED)
            return one(session, tenant, name, None)

    def remove(self, tenant: str, name: str, *, actor: str = SERVER) -> AdapterVersion:
        """Unpin a name, if it is pinned, and return its current version.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
        """
        with self._changes.writing(tenant) as session:
            adapter = live_adapter(session, tenant, name)
            if unpin(session, adapter):
                session.flush()
                audit(session, actor, tenant, "adapter.unpin", name)
                note(session, adapter, Change.UNPINNED)
            return one(session, tenant, name, None)

    def current(self) -> tuple[AdapterVersion, ...]:
        """Return the current version of every pinned name, of all tenants."""
        # Starts from the pins, which are few, rather than from the adapters, which are many.
        pinned = versions(AdapterRow.id.in_(select(PinRow.adapter_id)), VersionRow.number == AdapterRow.current)
        with reading(self._engine) as session:
            return tuple(map(read, session.execute(pinned.order_by(AdapterRow.id))))
