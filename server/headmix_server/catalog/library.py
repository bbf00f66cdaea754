"""Store and catalog as one: an artifact's bytes and the names that refer to it appear and go together.

Owns the order of the steps (bytes before names, names away before bytes) and the lock that keeps one client's deletion
from removing the file that another's upload of the same bytes has just found there.
"""

import threading
from pathlib import Path

from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.store import ArtifactStore, Collected, Upload
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Deleted, Published
from headmix_server.core.types import AdapterRef


class Library:
    """All tenants' adapters with their files. Safe to use from many threads of one process."""

    def __init__(self, catalog: Catalog, store: ArtifactStore) -> None:
        self.catalog = catalog
        self.store = store
        self._lock = threading.Lock()

    def start(self) -> Collected:
        """Remove what a crash left behind; call it once, before any upload."""
        return self.store.collect(self.catalog.referenced_digests())

    def publish(self, tenant: str, name: str, upload: Upload, record: AdapterRecord) -> Published:
        """Store the verified upload and make it the name's current version.

        Raises:
            InvalidRequest: the name is malformed or reserved.
            InsufficientStorage: the disk is full; nothing changed.
        """
        if record.digest != upload.digest:
            raise ValueError(f"the record is of {record.digest}, the upload is {upload.digest}")
        upload.finish()
        with self._lock:
            self.store.commit(upload)
            try:
                return self.catalog.publish(tenant, name, record)
            except Exception:
                if not self.catalog.refers_to(record.digest):
                    self.store.delete(record.digest)
                raise

    def delete(self, tenant: str, name: str) -> Deleted:
        """Take the adapter away, and the files nobody else refers to.

        Raises:
            ModelNotFound: no such adapter of this tenant.
        """
        with self._lock:
            deleted = self.catalog.delete(tenant, name)
            for digest in deleted.freed_digests:
                self.store.delete(digest)
            return deleted

    def path(self, version: AdapterVersion) -> Path:
        """Return the version's file."""
        return self.store.path(version.digest)

    def ref(self, version: AdapterVersion) -> AdapterRef:
        """Return the version as the engine needs it."""
        return AdapterRef(
            digest=version.digest,
            path=str(self.path(version)),
            name=version.name,
            version=version.version,
            tenant=version.tenant,
        )
