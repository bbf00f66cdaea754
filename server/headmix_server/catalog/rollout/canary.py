"""Canaries: a second version of a name that serves a percentage of its requests, for comparison with the current one.

Requests that name a version do not take part. A canary ends when another version becomes current, by an upload, a
rollback or its own promotion: such a change applies to all requests.
"""

import hashlib

from sqlalchemy.orm import Session

from headmix_server.catalog.bind_base import require_accepted
from headmix_server.catalog.changes import Change, Changes, note
from headmix_server.catalog.queries import live_adapter, one, storable
from headmix_server.catalog.rollout.history import promote
from headmix_server.catalog.tables import AdapterRow, CanaryRow
from headmix_server.catalog.version import AdapterVersion, Canary
from headmix_server.core.errors import InvalidRequest
from headmix_server.database import SERVER, audit

DRAWS = 100


def draw_of(key: str, model: str) -> int:
    """Return a number from 0 to 99: the same for the same key and model, and evenly distributed over keys.

    A canary of n percent serves the draws below n, so a key that it serves stays with it as the percentage grows.
    """
    text = f"{model}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) % DRAWS


def end_canary(session: Session, actor: str, adapter: AdapterRow) -> None:
    """End the adapter's canary, if any; call it within the transaction that makes another version current."""
    row = session.get(CanaryRow, adapter.id)
    if row is not None:
        session.delete(row)
        audit(session, actor, adapter.tenant, "canary.end", f"{adapter.name}@{row.number}")
        note(session, adapter, Change.CANARY_ENDED)


def require_no_canary(session: Session, adapter: AdapterRow, number: int) -> None:
    """Refuse to remove a version that requests are sent to.

    Raises:
        InvalidRequest: it is the canary.
    """
    row = session.get(CanaryRow, adapter.id)
    if row is not None and row.number == number:
        raise InvalidRequest(f"{adapter.name}@{number} is the canary: end it first.", param="version")


def start_canary(session: Session, tenant: str, name: str, canary: Canary, *, actor: str) -> None:
    """Send a percentage of the name's requests to a version, as `Canaries.start`; on an error nothing was changed."""
    adapter = live_adapter(session, tenant, name)
    current = one(session, tenant, name, None)
    other = one(session, tenant, name, storable(canary.version), asked=f"{name}@{canary.version}")
    _require_alike(current, other)
    require_accepted(session, other)
    before = None if current.canary is None else current.canary.version
    session.merge(CanaryRow(adapter_id=adapter.id, number=other.version, percent=canary.percent))
    session.flush()
    audit(session, actor, tenant, "canary.start", other.reference, percent=canary.percent)
    note(session, adapter, Change.CANARY_RESIZED if before == other.version else Change.CANARY_STARTED)


class Canaries:
    """All tenants' canaries. Safe to use from many threads; `actor` is who the audit records."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def start(self, tenant: str, name: str, canary: Canary, *, actor: str = SERVER) -> AdapterVersion:
        """Send a percentage of the name's requests to a version, replacing any running canary.

        Returns the current version.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own, or there is no such version.
            InvalidRequest: the version is the current one, was accepted for another base, or differs from the current
                one in task or labels.
        """
        with self._changes.writing(tenant) as session:
            start_canary(session, tenant, name, canary, actor=actor)
            return one(session, tenant, name, None)

    def end(self, tenant: str, name: str, *, actor: str = SERVER) -> AdapterVersion:
        """Send all requests to the current version again, and return it; without a canary nothing changes.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
        """
        with self._changes.writing(tenant) as session:
            end_canary(session, actor, live_adapter(session, tenant, name))
            session.flush()
            return one(session, tenant, name, None)

    def promote(self, tenant: str, name: str, *, actor: str = SERVER) -> AdapterVersion:
        """Make the canary the current version and return it; a rollback undoes it.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
            InvalidRequest: no canary is running, or its version was accepted for another base.
        """
        with self._changes.writing(tenant) as session:
            adapter = live_adapter(session, tenant, name)
            row = session.get(CanaryRow, adapter.id)
            if row is None:
                raise InvalidRequest(f"No canary of {name!r} runs.")
            before = adapter.current
            promote(session, adapter, row.number)
            audit(session, actor, tenant, "canary.promote", f"{name}@{row.number}", before=before)
            note(session, adapter, Change.CANARY_PROMOTED)
            session.delete(row)
            session.flush()
            promoted = one(session, tenant, name, None)
            require_accepted(session, promoted)
            return promoted


def _require_alike(current: AdapterVersion, other: AdapterVersion) -> None:
    """Refuse a version whose results a client of the current version could not interpret."""
    if current.version == other.version:
        raise InvalidRequest(f"{other.reference} is the current version already.", param="version")
    heads = [None if v.config.classifier is None else v.config.classifier.problem for v in (current, other)]
    if current.task != other.task or current.labels != other.labels or heads[0] != heads[1]:
        raise InvalidRequest(
            f"{other.reference} differs from the current version in task or labels, so it cannot be its canary.",
            param="version",
        )
