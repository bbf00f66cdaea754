"""The adapters that a tenant may use besides its own: those that their owners share with it, or with everyone.

Tenants may read and use a shared adapter, but only its owner may change it. Sharing does not reveal whether the other
tenant exists, and nobody learns of an adapter that is not shared with them.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, ScalarSelect, Select, delete, select, tuple_
from sqlalchemy.orm import Session

from headmix_server.catalog.changes import Change, Changes, note
from headmix_server.catalog.names import Reference, is_name, parse_adapter
from headmix_server.catalog.page import Page, read_page
from headmix_server.catalog.queries import Columns, live_adapter, not_found, versions
from headmix_server.catalog.tables import AdapterRow, ShareRow, VersionRow
from headmix_server.catalog.version import VersionState
from headmix_server.core.errors import Forbidden, InvalidRequest
from headmix_server.database import SERVER, audit, reading

EVERYONE = "*"
"""As a grantee; it is not a valid tenant name."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Who an adapter is shared with: `everyone`, or the named tenants; with neither, no one."""

    everyone: bool = False
    tenants: tuple[str, ...] = ()


def meant_by(tenant: str, reference: Reference) -> ScalarSelect[int]:
    """Select the id of the adapter that a tenant refers to: its own, or one that `owner` shares with it."""
    if reference.owner is None or reference.owner == tenant:
        own = select(AdapterRow.id).where(AdapterRow.tenant == tenant, AdapterRow.name == reference.name)
        return own.scalar_subquery()
    return _shared_with(tenant, reference.owner, reference.name).limit(1).scalar_subquery()


def share_nothing(session: Session, adapter: AdapterRow) -> None:
    """End all shares of an adapter."""
    session.execute(delete(ShareRow).where(ShareRow.adapter_id == adapter.id))


class Sharing:
    """All tenants' shares. Safe to use from many threads; `actor` is who the audit records."""

    def __init__(self, engine: Engine, changes: Changes) -> None:
        self._engine = engine
        self._changes = changes

    def of(self, tenant: str, name: str) -> Shares:
        """Return who the tenant shares its adapter with.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
        """
        with reading(self._engine) as session:
            adapter = live_adapter(session, tenant, name)
            grantees = session.scalars(select(ShareRow.grantee).where(ShareRow.adapter_id == adapter.id)).all()
        named = sorted(grantee for grantee in grantees if grantee != EVERYONE)
        return Shares(EVERYONE in grantees, tuple(named))

    def change(self, tenant: str, name: str, shares: Shares, *, actor: str = SERVER) -> Shares:
        """Share an adapter with exactly these, from the next request on, and return them.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
            InvalidRequest: a tenant's name is malformed, or is the owner's.
        """
        grantees = sorted(set(shares.tenants)) if not shares.everyone else [EVERYONE]
        for grantee in grantees if not shares.everyone else ():
            if not is_name(grantee) or grantee == tenant:
                raise InvalidRequest(f"{grantee[:128]!r} cannot be the name of another tenant.", param="tenants")
        with self._changes.writing(tenant) as session:
            adapter = live_adapter(session, tenant, name)
            share_nothing(session, adapter)
            session.add_all(
                ShareRow(grantee=grantee, owner=tenant, name=name, adapter_id=adapter.id) for grantee in grantees
            )
            action = "adapter.share" if grantees else "adapter.unshare"
            audit(session, actor, tenant, action, name, **({"with": grantees} if grantees else {}))
            note(session, adapter, Change.SHARED)
        return Shares(shares.everyone, () if shares.everyone else tuple(grantees))

    def own_name(self, tenant: str, model: str) -> str:
        """Return the bare name of an adapter that a tenant wants to change, without checking that it exists.

        Raises:
            ModelNotFound: it is another tenant's and not shared with this one, or does not exist.
            Forbidden: it is another tenant's and shared with this one.
        """
        if "/" not in model:
            return model
        owner, name, _ = parse_adapter(model)
        if owner == tenant:
            return name
        with reading(self._engine) as session:
            shared = session.scalar(_shared_with(tenant, owner or "", name).limit(1))
        if shared is None:
            raise not_found(model)
        raise Forbidden(f"The adapter {model!r} is shared with this tenant, which may use it but not change it.")

    def own(self, tenant: str, *, after: str = "", limit: int | None = None) -> Page:
        """Return the current versions of the tenant's own adapters, ordered by name, starting after `after`."""
        with reading(self._engine) as session:
            return read_page(session, _own(tenant, after), limit)

    def visible(self, tenant: str, *, after: str = "", limit: int | None = None) -> Page:
        """Return current versions: the tenant's own adapters by name, then those shared with it by owner and name.

        The page starts after the adapter that the tenant calls `after`; it is bounded by `limit` and by a page's bytes.
        """
        owner, slash, name = after.rpartition("/")
        with reading(self._engine) as session:
            own = None if slash else read_page(session, _own(tenant, after), limit)
            if own is not None and own.has_more:
                return own
            return read_page(session, _lent(tenant, owner, name if slash else ""), limit, before=own)


_CURRENT = versions(VersionRow.number == AdapterRow.current)


def _shared_with(tenant: str, owner: str, name: str) -> Select[int]:
    wanted = (ShareRow.grantee.in_((tenant, EVERYONE)), ShareRow.owner == owner, ShareRow.name == name)
    return select(ShareRow.adapter_id).where(*wanted)


def _own(tenant: str, after: str) -> Select[*Columns]:
    return _CURRENT.where(AdapterRow.tenant == tenant, AdapterRow.name > after).order_by(AdapterRow.name)


def _lent(tenant: str, owner: str, name: str) -> Select[*Columns]:
    place = tuple_(ShareRow.owner, ShareRow.name)
    wanted = (ShareRow.grantee.in_((tenant, EVERYONE)), ShareRow.owner != tenant, place > (owner, name))
    return (
        _CURRENT.where(VersionRow.state == VersionState.READY.value)
        .join(ShareRow, ShareRow.adapter_id == AdapterRow.id)
        .where(*wanted)
        .order_by(ShareRow.owner, ShareRow.name)
    )
