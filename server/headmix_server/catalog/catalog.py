"""The catalog: which tenant calls which artifact by which name, and which version is current.

Every change is one transaction, visible at once or not at all. It knows digests, not files: `store` holds the bytes,
and `library` joins the two.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, Engine, Row, Select, delete, func, select
from sqlalchemy.orm import Session

from headmix_adapters.config import decode_config, encode_config
from headmix_server.catalog.models import AdapterRow, PromotionRow, VersionRow
from headmix_server.catalog.names import check_name, known_form, parse_reference
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Deleted, Published
from headmix_server.core.database import ensure_tenant, reading, writing
from headmix_server.core.errors import InvalidRequest, ModelNotFound

_Columns = tuple[str, str, int, str, int, int, int, int | None, str]


class Catalog:
    """Names and versions of every tenant's adapters. `reserved` holds the names of the base, which none may take."""

    def __init__(self, engine: Engine, *, reserved: Collection[str] = ()) -> None:
        self._engine = engine
        self._reserved = frozenset(reserved)

    def publish(self, tenant: str, name: str, record: AdapterRecord) -> Published:
        """Make the artifact the current version of the name, as a new version unless its bytes are current already.

        Raises:
            InvalidRequest: the name is malformed or reserved, or the tenant's is malformed.
        """
        check_name(name, reserved=self._reserved)
        with writing(self._engine) as session:
            ensure_tenant(session, tenant)
            adapter = session.scalar(_adapter(tenant, name))
            if adapter is None:
                adapter = AdapterRow(tenant=tenant, name=name, current=None, last=0)
                session.add(adapter)
                session.flush()
            created = _current_digest(session, adapter) != record.digest
            if created:
                _add_version(session, adapter, record)
            return Published(_one(session, tenant, name, None), created)

    def resolve(self, tenant: str, model: str) -> AdapterVersion:
        """Return the version that `name` (the current one) or `name@3` refers to.

        Raises:
            ModelNotFound: unknown, another tenant's or malformed, all found out by the same query.
        """
        name, number = parse_reference(model)
        with reading(self._engine) as session:
            return _one(session, tenant, name, number, asked=model)

    def list(self, tenant: str) -> tuple[AdapterVersion, ...]:
        """Return the current version of each of the tenant's adapters, by name."""
        chosen = _versions(AdapterRow.tenant == tenant, VersionRow.number == AdapterRow.current)
        with reading(self._engine) as session:
            return tuple(map(_read, session.execute(chosen.order_by(AdapterRow.name))))

    def versions(self, tenant: str, name: str) -> tuple[AdapterVersion, ...]:
        """Return every version of the adapter, newest first.

        Raises:
            ModelNotFound: as `resolve`.
        """
        with reading(self._engine) as session:
            return _all(session, tenant, name)

    def rollback(self, tenant: str, name: str, version: int | None = None) -> AdapterVersion:
        """Make an earlier (or later) version current again and return it.

        Without `version` the last change of what is current is undone, be it an upload or a rollback to a named
        version; asked again, the one before that.

        Raises:
            ModelNotFound: as `resolve`, or no such version.
            InvalidRequest: without `version`, and nothing was current before.
        """
        with writing(self._engine) as session:
            current = _one(session, tenant, known_form(name), None, asked=name)
            adapter = session.scalars(_adapter(tenant, name)).one()
            if version is None:
                adapter.current = _undo(session, adapter)
            elif version != current.version:
                _one(session, tenant, name, _storable(version), asked=f"{name}@{version}")
                _promote(session, adapter, version)
            session.flush()
            return _one(session, tenant, name, None)

    def delete(self, tenant: str, name: str) -> Deleted:
        """Take the adapter and all its versions away, at once.

        Raises:
            ModelNotFound: as `resolve`.
        """
        with writing(self._engine) as session:
            versions = _all(session, tenant, name)
            adapter = session.scalars(_adapter(tenant, name)).one()
            session.execute(delete(PromotionRow).where(PromotionRow.adapter_id == adapter.id))
            session.execute(delete(VersionRow).where(VersionRow.adapter_id == adapter.id))
            adapter.current = None
            digests = dict.fromkeys(version.digest for version in versions)
            freed = tuple(digest for digest in digests if not _in_use(session, digest))
            return Deleted(versions, freed)

    def referenced_digests(self) -> frozenset[str]:
        """Return every digest that any version of any tenant refers to."""
        with reading(self._engine) as session:
            return frozenset(session.scalars(select(VersionRow.digest).distinct()))

    def refers_to(self, digest: str) -> bool:
        """Return whether any version of any tenant refers to the digest."""
        with reading(self._engine) as session:
            return _in_use(session, digest)

    def owners(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return, for each digest, the (tenant, name) pairs that refer to it; for the metrics, never for a tenant."""
        pairs: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        query = select(VersionRow.digest, AdapterRow.tenant, AdapterRow.name).join(AdapterRow, _OF_ADAPTER)
        with reading(self._engine) as session:
            for digest, tenant, name in session.execute(query.order_by(AdapterRow.tenant, AdapterRow.name)):
                pairs[digest][tenant, name] = None
        return {digest: tuple(names) for digest, names in pairs.items()}


_OF_ADAPTER = VersionRow.adapter_id == AdapterRow.id


def _versions(*where: ColumnElement[bool]) -> Select[*_Columns]:
    """Select what `_read` reads; the columns, not the rows, since a request waits for it."""
    return (
        select(
            AdapterRow.tenant,
            AdapterRow.name,
            VersionRow.number,
            VersionRow.digest,
            VersionRow.size_bytes,
            VersionRow.num_parameters,
            VersionRow.created,
            AdapterRow.current,
            VersionRow.config,
        )
        .join(AdapterRow, _OF_ADAPTER)
        .where(*where)
    )


def _read(row: Row[*_Columns]) -> AdapterVersion:
    tenant, name, number, digest, size_bytes, num_parameters, created, current, config = row
    return AdapterVersion(
        tenant=tenant,
        name=name,
        version=number,
        digest=digest,
        size_bytes=size_bytes,
        num_parameters=num_parameters,
        created=created,
        current=number == current,
        config=decode_config(config),
    )


def _adapter(tenant: str, name: str) -> Select[AdapterRow]:
    return select(AdapterRow).where(AdapterRow.tenant == tenant, AdapterRow.name == name)


def _one(session: Session, tenant: str, name: str, number: int | None, *, asked: str | None = None) -> AdapterVersion:
    """Return one version; `asked` is what the client called it."""
    wanted = func.coalesce(number, AdapterRow.current)
    query = _versions(AdapterRow.tenant == tenant, AdapterRow.name == name, VersionRow.number == wanted)
    row = session.execute(query).one_or_none()
    if row is None:
        raise _not_found(asked if asked is not None else name)
    return _read(row)


def _all(session: Session, tenant: str, name: str) -> tuple[AdapterVersion, ...]:
    known = _versions(AdapterRow.tenant == tenant, AdapterRow.name == known_form(name))
    versions = tuple(map(_read, session.execute(known.order_by(VersionRow.number.desc()))))
    if not versions:
        raise _not_found(name)
    return versions


def _storable(version: int) -> int:
    """Return 0, which no version has, for a number that the database cannot hold."""
    return version if 0 < version < 2**63 else 0


def _not_found(asked: str) -> ModelNotFound:
    # repr: what a client sent may hold quotes, control characters or halves of surrogate pairs.
    return ModelNotFound(f"The model {asked[:128]!r} does not exist.", param="model")


def _current_digest(session: Session, adapter: AdapterRow) -> str | None:
    return session.scalar(
        select(VersionRow.digest).where(VersionRow.adapter_id == adapter.id, VersionRow.number == adapter.current)
    )


def _in_use(session: Session, digest: str) -> bool:
    return session.scalar(select(VersionRow.number).where(VersionRow.digest == digest).limit(1)) is not None


def _add_version(session: Session, adapter: AdapterRow, record: AdapterRecord) -> None:
    adapter.last += 1
    session.add(
        VersionRow(
            adapter_id=adapter.id,
            number=adapter.last,
            digest=record.digest,
            size_bytes=record.size_bytes,
            num_parameters=record.num_parameters,
            config=encode_config(record.config),
            created=int(time.time()),
        )
    )
    _promote(session, adapter, adapter.last)
    session.flush()


def _promote(session: Session, adapter: AdapterRow, number: int) -> None:
    position = session.scalar(
        select(func.coalesce(func.max(PromotionRow.position), 0) + 1).where(PromotionRow.adapter_id == adapter.id)
    )
    session.add(PromotionRow(adapter_id=adapter.id, position=position, number=number))
    adapter.current = number


def _undo(session: Session, adapter: AdapterRow) -> int:
    """Drop the last promotion and return the number of the one before."""
    of_adapter = select(PromotionRow).where(PromotionRow.adapter_id == adapter.id)
    latest = session.scalars(of_adapter.order_by(PromotionRow.position.desc()).limit(2)).all()
    if len(latest) < 2:
        raise InvalidRequest(f"No version of {adapter.name!r} was current before this one.", param="version")
    session.delete(latest[0])
    return latest[1].number
