"""How versions are read: the columns, the rows that match a name, and the one error if there is none."""

from sqlalchemy import ColumnElement, Row, Select, func, select
from sqlalchemy.orm import Session

from headmix_adapters.config import decode_config
from headmix_server.catalog.names import known_form
from headmix_server.catalog.tables import AdapterRow, ArtifactRow, CanaryRow, PinRow, VersionRow
from headmix_server.catalog.version import AdapterVersion, Canary, VersionState
from headmix_server.core.errors import ModelNotFound

Columns = tuple[str, str, int, str, str, int, int, int, int | None, str, int, str, int | None, int | None, int | None]

OF_ADAPTER = VersionRow.adapter_id == AdapterRow.id
NO_DRAW = 100
"""The draw that never selects a canary: a canary gets at most the draws from 0 to 99."""

NOT_DELETED = VersionRow.state != VersionState.DELETED.value


def versions(*where: ColumnElement[bool]) -> Select[*Columns]:
    """Select what `read` needs: columns instead of mapped objects, since requests wait for it."""
    return (
        select(
            AdapterRow.tenant,
            AdapterRow.name,
            VersionRow.number,
            VersionRow.digest,
            ArtifactRow.base,
            VersionRow.size_bytes,
            VersionRow.num_parameters,
            VersionRow.created,
            AdapterRow.current,
            VersionRow.config,
            VersionRow.config_bytes,
            VersionRow.state,
            CanaryRow.number,
            CanaryRow.percent,
            PinRow.adapter_id,
        )
        .select_from(VersionRow)
        .join(AdapterRow, OF_ADAPTER)
        .join(ArtifactRow, ArtifactRow.digest == VersionRow.digest)
        .outerjoin(CanaryRow, CanaryRow.adapter_id == AdapterRow.id)
        .outerjoin(PinRow, PinRow.adapter_id == AdapterRow.id)
        .where(*where)
    )


def read(row: Row[*Columns]) -> AdapterVersion:
    """Return the version in a row of `versions`."""
    # Two steps: one line is too short for all names, and unpacking the rest with a star would lose its types.
    tenant, name, number, digest, base, size_bytes, num_parameters = row[:7]
    created, current, config, config_bytes, state, canary, percent, pin = row[7:]
    return AdapterVersion(
        tenant=tenant,
        name=name,
        version=number,
        digest=digest,
        accepted_for=base,
        size_bytes=size_bytes,
        num_parameters=num_parameters,
        created=created,
        current=number == current,
        config=decode_config(config),
        config_bytes=config_bytes,
        state=VersionState(state),
        canary=None if canary is None or percent is None else Canary(canary, percent),
        pinned=pin is not None,
    )


def adapter(tenant: str, name: str) -> Select[AdapterRow]:
    """Select the row of a name, even if all its versions are deleted."""
    return select(AdapterRow).where(AdapterRow.tenant == tenant, AdapterRow.name == name)


def one(session: Session, tenant: str, name: str, number: int | None, *, asked: str | None = None) -> AdapterVersion:
    """Return the tenant's own version of that number that can be used, or the current one; `asked` is as in `pick`.

    Raises:
        ModelNotFound: there is no such version.
    """
    own = (AdapterRow.tenant == tenant) & (AdapterRow.name == name)
    return pick(session, own, number, asked=name if asked is None else asked)


def pick(
    session: Session, of_adapter: ColumnElement[bool], number: int | None, *, asked: str, draw: int = NO_DRAW
) -> AdapterVersion:
    """Return the version of an adapter that can be used; `asked` is the client's name for it.

    A `number` of None means the canary if it gets this `draw` (0 to 99), and otherwise the current version.

    Raises:
        ModelNotFound: there is no such version.
    """
    # A separate subquery: in a join it would come after the versions, and all of them would be read.
    met = select(CanaryRow.number).where(CanaryRow.adapter_id == AdapterRow.id, CanaryRow.percent > draw)
    wanted = func.coalesce(number, met.correlate(AdapterRow).scalar_subquery(), AdapterRow.current)
    ready = VersionRow.state == VersionState.READY.value
    row = session.execute(versions(of_adapter, VersionRow.number == wanted, ready)).one_or_none()
    if row is None:
        raise not_found(asked)
    return read(row)


def live_adapter(session: Session, tenant: str, name: str) -> AdapterRow:
    """Return the row of a name that has a current version.

    Raises:
        ModelNotFound: there is no such name.
    """
    found = session.scalar(adapter(tenant, known_form(name)).where(AdapterRow.current.is_not(None)))
    if found is None:
        raise not_found(name)
    return found


def in_use(session: Session, digest: str) -> bool:
    """Return whether any tenant's version refers to the digest, ignoring deleted versions."""
    query = select(VersionRow.number).where(VersionRow.digest == digest, NOT_DELETED).limit(1)
    return session.scalar(query) is not None


def storable(version: int) -> int:
    """Return the number, or 0, which no version has, if the database cannot store it."""
    return version if 0 < version < 2**63 else 0


def not_found(asked: str) -> ModelNotFound:
    """Return the error for a name that refers to nothing."""
    # repr, since a client's text may contain quotes, control characters or halves of surrogate pairs.
    return ModelNotFound(f"The model {asked[:128]!r} does not exist.", param="model")
