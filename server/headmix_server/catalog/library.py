"""Combines store and catalog: an artifact's bytes and the names that refer to it appear and disappear together.

Owns the order of the steps (store bytes before adding names, remove names before bytes) and when bytes are freed: once
every version that refers to them is deleted and their last hold is released.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from headmix_server.catalog.bind_base import other_base
from headmix_server.catalog.bytes.holds import Hold, Holds
from headmix_server.catalog.bytes.store import Collected, Store
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.catalog import AlsoPublished, Catalog, nothing_else
from headmix_server.catalog.queries import NO_DRAW
from headmix_server.catalog.quota import Quota
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Deleted, Published, VersionState
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.types import AdapterRef
from headmix_server.database import SERVER


class Library:
    """All tenants' adapters with their files. Safe to use from many threads of one process; methods block.

    `base` is the fingerprint of the base that requests run on. `holds` are those passed to the store. `on_freed` is
    called with each freed digest, in any thread. `actor` is who the audit records as having made a change.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        *,
        base: str,
        holds: Holds | None = None,
        on_freed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.catalog = catalog
        self.store = store
        self._base = base
        self.holds = Holds() if holds is None else holds
        self.holds.watch(self._on_last_hold)
        self._on_freed = on_freed
        self._doomed: set[str] = set()  # digests whose bytes may be freed once they are no longer held
        self._deletions = 0
        self._lock = threading.Lock()
        self._freeing = ThreadPoolExecutor(1, "headmix-free")
        self._log = get_logger("library")

    def start(self) -> Collected:
        """Finish deletions and remove what a crash left behind; call it once, before any upload."""
        with self._lock:
            self._doomed |= self.catalog.tombstones.digests()
        self.free_doomed()
        return self.store.collect(self.catalog.stored_digests())

    def close(self) -> None:
        """Finish freeing artifacts, and stop the thread that does it."""
        self._freeing.shutdown()

    # --- changes -------------------------------------------------------------------------------------------------

    def publish(
        self,
        tenant: str,
        name: str,
        upload: Upload,
        record: AdapterRecord,
        *,
        current: bool = True,
        may_be_first: bool = False,
        actor: str = SERVER,
        quota: Quota | None = None,
        also: AlsoPublished = nothing_else,
    ) -> Published:
        """Store the verified upload and make it a version of the name, the current one if `current`.

        `may_be_first` and `also` are as in `Catalog.publish`.

        Raises:
            InvalidRequest: as `Catalog.publish`; nothing changed.
            InsufficientStorage: the disk is full; nothing changed.
            StorageUnavailable: the store cannot be reached; nothing changed.
            RateLimitExceeded: the tenant would exceed its quota; nothing changed.
        """
        if record.digest != upload.digest:
            raise ValueError(f"the record is of {record.digest}, the upload is {upload.digest}")
        upload.finish()
        with self.holds.acquire(record.digest):
            try:
                self.store.commit(upload)
                return self.catalog.publish(
                    tenant,
                    name,
                    record,
                    current=current,
                    may_be_first=may_be_first,
                    actor=actor,
                    quota=quota,
                    also=also,
                )
            except Exception:
                self._doom(record.digest)
                raise

    def delete(self, tenant: str, name: str, *, actor: str = SERVER) -> Deleted:
        """Delete the adapter, and free its bytes once nothing refers to or uses them.

        Raises:
            ModelNotFound: this tenant has no such adapter.
        """
        deleted = self.catalog.delete(tenant, name, actor=actor)
        self._after_deletion(*deleted.digests)
        return deleted

    def delete_version(self, tenant: str, name: str, version: int, *, actor: str = SERVER) -> AdapterVersion:
        """Delete one version as `delete` does all of them; return what it was.

        Raises:
            ModelNotFound: this tenant has no such version.
            InvalidRequest: it is the current version.
        """
        gone = self.catalog.set_state(tenant, name, version, VersionState.DELETED, actor=actor)
        self._after_deletion(gone.digest)
        return gone

    def delete_model(self, tenant: str, name: str, version: int | None, *, actor: str = SERVER) -> Deleted:
        """Delete an adapter, or one version even if it is the current one (see `Catalog.delete_version`).

        Raises:
            ModelNotFound: this tenant has no such adapter or version.
            InvalidRequest: as `Catalog.delete_version`.
        """
        if version is None:
            return self.delete(tenant, name, actor=actor)
        deleted = self.catalog.delete_version(tenant, name, version, actor=actor)
        self._after_deletion(*deleted.digests)
        return deleted

    # --- use -----------------------------------------------------------------------------------------------------

    def hold(self, tenant: str, model: str, *, draw: int = NO_DRAW) -> tuple[AdapterVersion, Hold]:
        """Return the version that a model refers to, with a hold on its bytes; `draw` is as in `Catalog.resolve`.

        Raises:
            ModelNotFound: as `Catalog.resolve`.
        """
        while True:
            deletions = self._deletions
            version = self.catalog.resolve(tenant, model, draw=draw)
            hold = self.holds.acquire(version.digest)
            # A deletion is counted before it checks for holds: either it finds this one, or it is noticed here.
            if self._deletions == deletions:
                return version, hold
            hold.release()

    def path(self, version: AdapterVersion) -> Path:
        """Return the path of the version's file, which `Store.download` makes available."""
        return self.store.path(version.digest)

    def ref(self, version: AdapterVersion, tenant: str | None = None, *, param: str = "model") -> AdapterRef:
        """Return the version as the engine needs it, for a request of its owner or of another tenant.

        Raises:
            InvalidRequest: it was accepted for another base; `param` named it.
        """
        asking = version.tenant if tenant is None else tenant
        if version.accepted_for != self._base:
            raise other_base(f"{version.called_by(asking)}@{version.version}", param=param)
        return AdapterRef(
            digest=version.digest,
            base=version.accepted_for,
            path=str(self.path(version)),
            name=version.called_by(asking),
            version=version.version,
            tenant=asking,
            size_bytes=version.size_bytes,
        )

    # --- freeing -------------------------------------------------------------------------------------------------

    def free_doomed(self) -> None:
        """Free what deletions left and nothing uses, including what failed before; further failures are logged."""
        with self._lock:
            doomed = sorted(self._doomed)
        for digest in doomed:
            self._free(digest)

    def drain(self) -> None:
        """Wait until the work triggered by the last released holds is done."""
        self._freeing.submit(lambda: None).result()

    def _after_deletion(self, *digests: str) -> None:
        self._doom(*digests)
        for digest in digests:
            self._free(digest)

    def _doom(self, *digests: str) -> None:
        with self._lock:
            self._deletions += 1
            self._doomed.update(digests)

    def _on_last_hold(self, digest: str) -> None:
        if digest in self._doomed:
            with suppress(RuntimeError):  # already closed: the next start does it
                self._freeing.submit(self._free, digest)

    def _free(self, digest: str) -> None:
        """Free the artifact if it is due; releasing its last hold calls this again."""
        # Repeat if another caller marked it again in the meantime, and found it busy because of this call.
        while digest in self._doomed:
            with self.holds.exclusively(digest) as alone:
                if not alone or not self._try_to_free(digest):
                    return

    def _try_to_free(self, digest: str) -> bool:
        with self._lock:
            self._doomed.discard(digest)
        try:
            # Bytes before rows: after a crash in between, the rows show what remains to be done.
            if not self.catalog.refers_to(digest):
                self.store.delete(digest)
            freed = self.catalog.tombstones.bury(digest)
        except Exception as error:  # noqa: BLE001 - any error is retried later and must not stop the rest
            with self._lock:
                self._doomed.add(digest)
            self._log.error("an artifact could not be freed", digest=digest, reason=str(error))
            return False
        if freed:
            self._on_freed(digest)
        return True
