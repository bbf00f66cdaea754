"""Deleted versions: tombstones that keep an artifact's row until its last use ends, and how they are buried.

Knows rows only; `library` knows when nothing uses an artifact any more.
"""

from sqlalchemy import Engine, delete, select

from headmix_server.catalog.descriptions import forget
from headmix_server.catalog.queries import OF_ADAPTER, in_use
from headmix_server.catalog.tables import AdapterRow, ArtifactRow, VersionRow
from headmix_server.catalog.version import VersionState
from headmix_server.database import SERVER, audit, reading, writing

_DELETED = VersionRow.state == VersionState.DELETED.value


class Tombstones:
    """All tenants' deleted versions. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def digests(self) -> frozenset[str]:
        """Return every digest that a deleted version refers to."""
        with reading(self._engine) as session:
            return frozenset(session.scalars(select(VersionRow.digest).where(_DELETED).distinct()))

    def bury(self, digest: str) -> bool:
        """Remove the artifact's tombstones, and its row unless a version refers to it; return whether it was removed.

        Call it once the bytes are gone, or if `Catalog.refers_to` them.
        """
        of_digest = VersionRow.digest == digest
        with writing(self._engine) as session:
            owners = select(AdapterRow.tenant).join(VersionRow, OF_ADAPTER).where(of_digest, _DELETED).distinct()
            tenants = session.scalars(owners.order_by(AdapterRow.tenant)).all()
            session.execute(delete(VersionRow).where(of_digest, _DELETED))
            artifact = session.get(ArtifactRow, digest)
            if artifact is None or in_use(session, digest):
                return False
            for tenant in tenants:
                audit(session, SERVER, tenant, "artifact.free", digest, size_bytes=artifact.size_bytes)
            forget(session, digest)
            session.delete(artifact)
            return True
