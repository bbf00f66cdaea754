"""Which base a catalog belongs to, as its changes need to know it. Who decides that is `bind_base`."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from headmix_server.catalog.descriptions import describe
from headmix_server.catalog.tables import ArtifactRow, IdentityRow
from headmix_server.catalog.version import AdapterRecord, AdapterVersion
from headmix_server.core.errors import InvalidRequest


def accept_artifact(session: Session, record: AdapterRecord) -> ArtifactRow:
    """Return the row of an artifact, made if there is none, with the base it was accepted for now.

    Raises:
        InvalidRequest: that is not the catalog's.
    """
    bound = _bound(session)
    if bound not in (None, record.base):
        raise InvalidRequest(f"The adapter was verified against the base {record.base}; this catalog's is {bound}.")
    artifact = session.get(ArtifactRow, record.digest)
    is_new = artifact is None
    if artifact is None:
        artifact = ArtifactRow(digest=record.digest, size_bytes=record.size_bytes, created=int(time.time()))
        session.add(artifact)
    artifact.base = record.base
    session.flush()
    if is_new:
        describe(session, record.digest, record.config)
    return artifact


def require_accepted(session: Session, version: AdapterVersion) -> None:
    """Refuse to let requests meet a version that was accepted for another base than the catalog's.

    Raises:
        InvalidRequest: it was.
    """
    bound = _bound(session)
    if bound not in (None, version.accepted_for):
        raise other_base(version.reference, param="version")


def other_base(reference: str, *, param: str) -> InvalidRequest:
    """Return the error of a version that was accepted for another base than the one there is."""
    return InvalidRequest(
        f"{reference} was accepted for another base than the one this server has; upload it again for this one.",
        param=param,
    )


def _bound(session: Session) -> str | None:
    return session.scalars(select(IdentityRow.base)).one()
