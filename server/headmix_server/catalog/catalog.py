"""The catalog: the names under which tenants have artifacts, and the current version of each name.

Every change is one transaction together with its row in the audit, visible at once or not at all. It knows digests, not
files: `store` holds the bytes, and `library` combines the two.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from headmix_adapters.config import BaseShape, encode_config, without_metadata
from headmix_server.catalog.bind_base import BaseIdentity, Bound, accept_artifact, bind_base, require_accepted
from headmix_server.catalog.changes import Change, Changes, OnChanged, note
from headmix_server.catalog.descriptions import Descriptions
from headmix_server.catalog.names import check_name, parse_adapter, parse_reference
from headmix_server.catalog.page import Page, read_page
from headmix_server.catalog.queries import (
    NO_DRAW,
    NOT_DELETED,
    OF_ADAPTER,
    adapter,
    in_use,
    live_adapter,
    not_found,
    one,
    pick,
    read,
    storable,
    versions,
)
from headmix_server.catalog.quota import Quota, Room, check_upload, read_room
from headmix_server.catalog.rollout.canary import Canaries, end_canary, require_no_canary
from headmix_server.catalog.rollout.history import promote, strike, undo
from headmix_server.catalog.rollout.pins import Pins, unpin
from headmix_server.catalog.rollout.sharing import Sharing, meant_by, share_nothing
from headmix_server.catalog.tables import AdapterRow, ArtifactRow, IdentityRow, VersionRow
from headmix_server.catalog.tombstones import Tombstones
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Deleted, Published, VersionState
from headmix_server.core.errors import InvalidRequest
from headmix_server.database import PROMPT, SERVER, audit, ensure_tenant, reading

_STATE_CHANGES = {
    VersionState.READY: Change.VERSION_READY,
    VersionState.RETIRED: Change.VERSION_RETIRED,
    VersionState.DELETED: Change.VERSION_DELETED,
}

AlsoPublished = Callable[[Session, AdapterVersion], None]
"""More to do in the transaction that publishes a version."""


def nothing_else(_: Session, __: AdapterVersion) -> None:
    """Do nothing more."""


class Catalog:
    """Names and versions of every tenant's adapters. `reserved` holds the base's names, which no adapter may have.

    `actor` is who the audit records as having made a change.
    """

    def __init__(self, engine: Engine, *, reserved: Collection[str] = ()) -> None:
        self._engine = engine
        self._changes = Changes(engine)
        self._reserved = frozenset(reserved)
        self.tombstones = Tombstones(engine)
        self.sharing = Sharing(engine, self._changes)
        self.canaries = Canaries(self._changes)
        self.descriptions = Descriptions(engine)
        self.pins = Pins(engine, self._changes)

    def watch(self, on_changed: OnChanged) -> None:
        """Call `on_changed` with every change of an adapter that is made through this catalog."""
        self._changes.watch(on_changed)

    # --- changes -------------------------------------------------------------------------------------------------

    def publish(
        self,
        tenant: str,
        name: str,
        record: AdapterRecord,
        *,
        current: bool = True,
        may_be_first: bool = False,
        actor: str = SERVER,
        quota: Quota | None = None,
        also: AlsoPublished = nothing_else,
    ) -> Published:
        """Make the artifact the name's current version: a new version, unless the current one already has these bytes.

        Without `current`, it is added next to the current version, unless the newest version already has these bytes;
        with `may_be_first`, a name without a current version gets it as that. `also` is called with the version within
        the same transaction, and its errors undo everything.

        Raises:
            InvalidRequest: the name is malformed or reserved, or the tenant's name is malformed; or without `current`,
                there is no current version; or the artifact was verified against a base other than the catalog's.
            RateLimitExceeded: the tenant would exceed its quota; a quota of None means no limit.
        """
        check_name(name, reserved=self._reserved)
        with self._changes.writing(tenant) as session:
            ensure_tenant(session, tenant)
            row = session.scalar(adapter(tenant, name))
            if row is None:
                row = AdapterRow(tenant=tenant, name=name, current=None, last=0)
                session.add(row)
                session.flush()
            current = current or (may_be_first and row.current is None)
            if row.current is None and not current:
                raise InvalidRequest("The first version of a name is its current one.", param="current")
            accept_artifact(session, record)
            created = _digest(session, row, row.current if current else row.last) != record.digest
            if created:
                if quota is not None:
                    is_new_name = row.current is None
                    quota.check(session, tenant, record.digest, record.size_bytes, is_new_name=is_new_name)
                _add_version(session, row, record)
                audit(session, actor, tenant, "adapter.publish", f"{name}@{row.last}", digest=record.digest)
                note(session, row, Change.PUBLISHED)
            if created and current:
                if row.current is not None:
                    end_canary(session, actor, row)
                promote(session, row, row.last)
            session.flush()
            version = one(session, tenant, name, None if current else row.last)
            also(session, version)
            return Published(version, created)

    def rollback(self, tenant: str, name: str, version: int | None = None, *, actor: str = SERVER) -> AdapterVersion:
        """Make an earlier (or later) version current again and return it.

        Without `version`, the last change of the current version is undone, whether an upload or a rollback to a given
        version; calling it again undoes the one before that.

        Raises:
            ModelNotFound: as `resolve`, or there is no such version.
            InvalidRequest: no version was current before, or the version was accepted for another base.
        """
        with self._changes.writing(tenant) as session:
            row = live_adapter(session, tenant, name)
            before = row.current
            if version is None:
                undo(session, row)
            elif version != before:
                one(session, tenant, name, storable(version), asked=f"{name}@{version}")
                promote(session, row, version)
            if row.current != before:
                audit(session, actor, tenant, "adapter.rollback", f"{name}@{row.current}", before=before)
                note(session, row, Change.ROLLED_BACK)
                end_canary(session, actor, row)
            session.flush()
            after = one(session, tenant, name, None)
            if after.version != before:
                require_accepted(session, after)
            return after

    def delete(self, tenant: str, name: str, *, actor: str = SERVER) -> Deleted:
        """Delete the adapter and all its versions in one transaction; tombstones remain until they are buried.

        Raises:
            ModelNotFound: as `resolve`.
        """
        with self._changes.writing(tenant) as session:
            return _delete_all(session, live_adapter(session, tenant, name), actor=actor)

    def delete_version(self, tenant: str, name: str, version: int, *, actor: str = SERVER) -> Deleted:
        """Delete one version, even the current one: the name then has its previous current version again.

        A name without any other version is deleted as a whole.

        Raises:
            ModelNotFound: as `resolve`, or the adapter has no such version, or no longer.
            InvalidRequest: it is the canary; or it is the only version that was ever current, and there are others.
        """
        with self._changes.writing(tenant) as session:
            row = live_adapter(session, tenant, name)
            others = (VersionRow.adapter_id == row.id, NOT_DELETED, VersionRow.number != storable(version))
            if row.current == version and session.scalar(select(VersionRow.number).where(*others).limit(1)) is None:
                return _delete_all(session, row, actor=actor)
            if row.current == version:
                undo(session, row)
                audit(session, actor, tenant, "adapter.rollback", f"{name}@{row.current}", before=version)
                note(session, row, Change.ROLLED_BACK)
                end_canary(session, actor, row)
                session.flush()
                require_accepted(session, one(session, tenant, name, None))
            gone = _change_state(session, row, version, VersionState.DELETED, actor=actor)
            return Deleted((gone.version,), (gone.digest,))

    def set_state(
        self, tenant: str, name: str, version: int, state: VersionState, *, actor: str = SERVER
    ) -> AdapterVersion:
        """Retire one version, make it ready again, or delete it; return its new state, or what it was before deletion.

        Raises:
            ModelNotFound: as `resolve`, or the adapter has no such version, or no longer.
            InvalidRequest: it is the current version or the canary, which must stay ready; or it would become ready
                again but was accepted for another base.
        """
        with self._changes.writing(tenant) as session:
            row = live_adapter(session, tenant, name)
            if row.current == version and state is not VersionState.READY:
                raise InvalidRequest(
                    f"{name}@{version} is the current version: make another one current first.", param="version"
                )
            return _change_state(session, row, version, state, actor=actor)

    def retire(self, tenant: str, name: str, version: int, *, actor: str = SERVER) -> AdapterVersion:
        """Retire a version, even the current one, and return it; its name then refers to nothing and is not pinned.

        Raises:
            ModelNotFound: as `resolve`, or the adapter has no such version.
            InvalidRequest: it is the canary.
        """
        with self._changes.writing() as session:
            row = live_adapter(session, tenant, name)
            if row.current == version:
                end_canary(session, actor, row)
                if unpin(session, row):
                    audit(session, actor, tenant, "adapter.unpin", name)
                    note(session, row, Change.UNPINNED)
            return _change_state(session, row, version, VersionState.RETIRED, actor=actor)

    # --- queries for a tenant ------------------------------------------------------------------------------------

    def resolve(self, tenant: str, model: str, *, draw: int = NO_DRAW) -> AdapterVersion:
        """Return the version that `name` (the current one) or `name@3` refers to; `owner/name` for another tenant's.

        With a `draw` from 0 to 99, a name alone may refer to its canary.

        Raises:
            ModelNotFound: it is unknown, malformed, retired, or another tenant's and not shared with this one. The same
                query determines all of these.
        """
        reference = parse_reference(model)
        meant = AdapterRow.id == meant_by(tenant, reference)
        with reading(self._engine, patience=PROMPT) as session:
            return pick(session, meant, reference.number, asked=model, draw=draw)

    def list(self, tenant: str, *, after: str = "", limit: int | None = None) -> tuple[AdapterVersion, ...]:
        """Return the current versions of the tenant's adapters, ordered by name, starting after `after`."""
        current = (AdapterRow.tenant == tenant, AdapterRow.name > after, VersionRow.number == AdapterRow.current)
        with reading(self._engine) as session:
            return tuple(map(read, session.execute(versions(*current).order_by(AdapterRow.name).limit(limit))))

    def count(self, tenant: str) -> int:
        """Return the number of the tenant's adapters."""
        there = select(func.count()).where(AdapterRow.tenant == tenant, AdapterRow.current.is_not(None))
        with reading(self._engine) as session:
            return session.scalars(there).one()

    def versions(self, tenant: str, model: str, *, before: int | None = None, limit: int | None = None) -> Page:
        """Return the adapter's versions numbered below `before`, including retired ones, newest first.

        Raises:
            ModelNotFound: as `resolve`.
        """
        with reading(self._engine) as session:
            meant = AdapterRow.id == meant_by(tenant, parse_adapter(model))
            found = session.scalar(select(AdapterRow.id).where(meant, AdapterRow.current.is_not(None)))
            if found is None:
                raise not_found(model)
            query = versions(VersionRow.adapter_id == found, NOT_DELETED)
            if before is not None:
                query = query.where(VersionRow.number < min(before, 2**63 - 1))
            return read_page(session, query.order_by(VersionRow.number.desc()), limit)

    def check_upload(self, tenant: str, quota: Quota, *, least: int, most: int) -> None:
        """Refuse an upload of `least` to `most` bytes before it is received; see `quota.check_upload`.

        Raises:
            RateLimitExceeded: the tenant would exceed its quota of bytes.
        """
        with reading(self._engine) as session:
            check_upload(session, tenant, quota, least=least, most=most)

    def read_room(self, tenant: str, *, least: int, most: int | None) -> Room:
        """Return the bytes that a tenant stores, for an upload of the given size; see `quota.read_room`."""
        with reading(self._engine, patience=PROMPT) as session:
            return read_room(session, tenant, least=least, most=most)

    # --- queries for the server ----------------------------------------------------------------------------------

    def bind_base(self, base: BaseShape, recorded: BaseIdentity | None = None) -> Bound:
        """Bind the catalog to this base; see `bind_base.bind_base`.

        Raises:
            OtherBaseError: it belongs to another base.
        """
        return bind_base(self._engine, base, recorded)

    def identity(self) -> str:
        """Return the text that identifies this catalog."""
        with reading(self._engine) as session:
            return session.scalars(select(IdentityRow.id)).one()

    def knows_name(self, name: str) -> bool:
        """Return whether any tenant has an adapter of this name."""
        named = select(AdapterRow.id).where(AdapterRow.name == name, AdapterRow.current.is_not(None)).limit(1)
        with reading(self._engine) as session:
            return session.scalar(named) is not None

    def stored_digests(self) -> frozenset[str]:
        """Return every digest whose bytes should be stored, including those of tombstones."""
        with reading(self._engine) as session:
            return frozenset(session.scalars(select(ArtifactRow.digest)))

    def referenced_digests(self) -> frozenset[str]:
        """Return every digest that a version of any tenant refers to, not counting tombstones."""
        with reading(self._engine) as session:
            return frozenset(session.scalars(select(VersionRow.digest).where(NOT_DELETED).distinct()))

    def refers_to(self, digest: str) -> bool:
        """Return whether a version of any tenant refers to the digest, not counting tombstones."""
        with reading(self._engine) as session:
            return in_use(session, digest)

    def owners(self, digests: Collection[str]) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return, for each of the digests, the (tenant, name) pairs that refer to it; for the metrics only."""
        pairs: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        query = (
            select(VersionRow.digest, AdapterRow.tenant, AdapterRow.name)
            .join(AdapterRow, OF_ADAPTER)
            .where(VersionRow.digest.in_(digests), NOT_DELETED)
        )
        with reading(self._engine) as session:
            for digest, tenant, name in session.execute(query.order_by(AdapterRow.tenant, AdapterRow.name)):
                pairs[digest][tenant, name] = None
        return {digest: tuple(names) for digest, names in pairs.items()}


def _digest(session: Session, row: AdapterRow, number: int | None) -> str | None:
    ready = VersionRow.state == VersionState.READY.value
    return session.scalar(
        select(VersionRow.digest).where(VersionRow.adapter_id == row.id, VersionRow.number == number, ready)
    )


def _delete_all(session: Session, row: AdapterRow, *, actor: str) -> Deleted:
    """Delete an adapter and all its versions; see `Catalog.delete`."""
    of_adapter = (VersionRow.adapter_id == row.id, NOT_DELETED)
    found = session.execute(
        select(VersionRow.number, VersionRow.digest).where(*of_adapter).order_by(VersionRow.number.desc())
    ).all()
    session.execute(update(VersionRow).where(*of_adapter).values(state=VersionState.DELETED.value))
    strike(session, row)
    share_nothing(session, row)
    end_canary(session, actor, row)
    unpin(session, row)
    row.current = None
    deleted = Deleted(tuple(number for number, _ in found), tuple(dict.fromkeys(digest for _, digest in found)))
    audit(session, actor, row.tenant, "adapter.delete", row.name, versions=deleted.versions)
    note(session, row, Change.DELETED)
    return deleted


def _change_state(
    session: Session, row: AdapterRow, version: int, state: VersionState, *, actor: str
) -> AdapterVersion:
    """Set the state of a version; see `Catalog.set_state`."""
    asked = f"{row.name}@{version}"
    chosen = (VersionRow.adapter_id == row.id, VersionRow.number == storable(version), NOT_DELETED)
    found = session.execute(versions(*chosen)).one_or_none()
    if found is None:
        raise not_found(asked)
    if state is VersionState.READY:
        require_accepted(session, read(found))
    else:
        require_no_canary(session, row, version)
    if found.state != state.value:
        session.execute(update(VersionRow).where(*chosen).values(state=state.value))
        if state is not VersionState.READY:
            strike(session, row, version)
        audit(session, actor, row.tenant, f"version.{state.value}", asked, digest=found.digest)
        note(session, row, _STATE_CHANGES[state])
    after = session.execute(versions(*chosen)).one_or_none()
    return read(found if after is None else after)


def _add_version(session: Session, row: AdapterRow, record: AdapterRecord) -> None:
    row.last += 1
    config = encode_config(without_metadata(record.config))
    session.add(
        VersionRow(
            adapter_id=row.id,
            number=row.last,
            digest=record.digest,
            state=VersionState.READY.value,
            size_bytes=record.size_bytes,
            num_parameters=record.num_parameters,
            config=config,
            config_bytes=len(config.encode()),
            created=int(time.time()),
        )
    )
    session.flush()
