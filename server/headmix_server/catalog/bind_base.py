"""The base that a catalog belongs to: how it is decided at startup and recorded, and what changes must comply with.

A catalog is bound to the base of the first server that opens it, and can be bound to another only while it has no
adapters. A catalog written by an earlier headmix has no such record: then `base.json` in the data folder decides, or
else the headers of its artifacts.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from headmix_adapters.artifact.checks.rules import check_base
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.config import AdapterConfig, BaseShape, decode_config
from headmix_server.catalog.descriptions import describe
from headmix_server.catalog.queries import NOT_DELETED
from headmix_server.catalog.tables import ArtifactRow, IdentityRow, VersionRow
from headmix_server.catalog.version import AdapterRecord, AdapterVersion
from headmix_server.core.errors import InvalidRequest
from headmix_server.database import writing


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """The identity of a base: its name, which may differ between places, and its fingerprint, which does not."""

    name: str
    fingerprint: str


class OtherBaseError(Exception):
    """The catalog belongs to another base, `known`."""

    def __init__(self, known: BaseIdentity) -> None:
        super().__init__(f"the catalog belongs to the base {known.name} ({known.fingerprint})")
        self.known = known


@dataclass(frozen=True, slots=True)
class Bound:
    """The artifacts whose header names another base, as they were classified when a catalog without a record was bound.

    `accepted` are the digests of those accepted for this base, `foreign` the digests of the others.
    """

    accepted: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def bind_base(engine: Engine, base: BaseShape, recorded: BaseIdentity | None = None) -> Bound:
    """Bind the catalog to `base` if it belongs to it or has no adapters; `recorded` is the base in `base.json`.

    Raises:
        OtherBaseError: it belongs to another base; nothing was changed.
    """
    with writing(engine) as session:
        identity = session.scalars(select(IdentityRow)).one()
        configs = _configs(session)
        bound = Bound()
        if configs and identity.base is None:
            bound = _take_over(session, configs, base, recorded)
        elif configs and identity.base != base.fingerprint:
            raise OtherBaseError(BaseIdentity(identity.base_name or "unknown", identity.base or ""))
        identity.base, identity.base_name = base.fingerprint, base.name
        return bound


def accept_artifact(session: Session, record: AdapterRecord) -> ArtifactRow:
    """Return the row of an artifact, created if necessary, with the base that it has now been accepted for.

    Raises:
        InvalidRequest: that is not the catalog's base.
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
    """Refuse to use a version that was accepted for a base other than the catalog's.

    Raises:
        InvalidRequest: it was accepted for another base.
    """
    bound = _bound(session)
    if bound not in (None, version.accepted_for):
        raise other_base(version.reference, param="version")


def other_base(reference: str, *, param: str) -> InvalidRequest:
    """Return the error for a version that was accepted for a base other than this server's."""
    return InvalidRequest(
        f"{reference} was accepted for another base than the one this server has; upload it again for this one.",
        param=param,
    )


def _configs(session: Session) -> Mapping[str, AdapterConfig]:
    """Return the header of each artifact that an undeleted version refers to, by digest."""
    query = select(VersionRow.digest, VersionRow.config).where(NOT_DELETED)
    return {digest: decode_config(config) for digest, config in session.execute(query)}


def _take_over(
    session: Session, configs: Mapping[str, AdapterConfig], base: BaseShape, recorded: BaseIdentity | None
) -> Bound:
    """Bind a catalog that has adapters but no record of their base; raises OtherBaseError if that is another one."""
    others = {digest: config for digest, config in configs.items() if config.base.fingerprint != base.fingerprint}
    fitting = [digest for digest, config in others.items() if _fits(config, base)]
    # A server that once ran here with a wrong base also left a `base.json`: trust it only if most adapters fit it.
    believed = recorded is not None and 2 * (len(configs) - len(others) + len(fitting)) >= len(configs)
    known = recorded if recorded is not None and believed else _most_named(configs, base)
    if known.fingerprint != base.fingerprint:
        raise OtherBaseError(known)
    # A trusted `base.json` means that every upload was checked against this base, whatever base its header names.
    accepted = fitting if believed else []
    for digest in accepted:
        session.get_one(ArtifactRow, digest).base = base.fingerprint
    return Bound(tuple(sorted(accepted)), tuple(sorted(others.keys() - set(accepted))))


def _most_named(configs: Mapping[str, AdapterConfig], base: BaseShape) -> BaseIdentity:
    """Return the base that most headers name; in a tie, the given one."""
    counts = Counter(config.base.fingerprint for config in configs.values())
    most = max(counts, key=lambda fingerprint: (counts[fingerprint], fingerprint == base.fingerprint))
    named = next(config.base.name for config in configs.values() if config.base.fingerprint == most)
    return BaseIdentity(named, most)


def _fits(config: AdapterConfig, base: BaseShape) -> bool:
    faults = FaultList()
    check_base(config, base, allow_base_mismatch=True, faults=faults)
    return not len(faults)


def _bound(session: Session) -> str | None:
    return session.scalars(select(IdentityRow.base)).one()
