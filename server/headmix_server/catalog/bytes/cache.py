"""The local copies of a bucket's artifacts: files, bounded in bytes, with the least recently used evicted first.

Owns what may be evicted. Held files stay, so a cache whose files are all in use may exceed its bound until they are
released. Where files come from is up to `bucket_store`.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Upload


class ArtifactCache:
    """Files of at most `max_bytes` in total; those for which `is_held` is true stay. Safe to use from many threads."""

    def __init__(self, files: ArtifactStore, max_bytes: int, is_held: Callable[[str], bool]) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._is_held = is_held
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def start(self) -> None:
        """Register the files that exist, and trim them; unfinished ones are removed."""
        self._files.collect(frozenset(self._files.digests()))
        found = [(self._files.path(digest).stat(), digest) for digest in self._files.digests()]
        with self._lock:
            self._sizes = OrderedDict((digest, stat.st_size) for stat, digest in sorted(found, key=_age))
            self._trim()

    def use(self, digest: str) -> bool:
        """Return whether the file exists, and mark it as just used. Hold it first: it stays while it is held."""
        with self._lock:
            if digest not in self._sizes:
                return False
            self._sizes.move_to_end(digest)
            return True

    def add(self, upload: Upload) -> Path:
        """Add a complete file, and evict others if necessary.

        Raises:
            InsufficientStorage: the disk is full.
        """
        path = self._files.commit(upload)  # outside the lock: it waits for the disk, and the event loop calls `use`
        with self._lock:
            self._sizes[upload.digest] = upload.size_bytes
            self._sizes.move_to_end(upload.digest)
            self._trim(keep=upload.digest)
        return path

    def drop(self, digest: str) -> None:
        """Remove a file if it exists, even if it is held."""
        with self._lock:
            self._sizes.pop(digest, None)
            self._files.delete(digest)

    @property
    def size_bytes(self) -> int:
        """The total bytes of all files."""
        with self._lock:
            return sum(self._sizes.values())

    def _trim(self, *, keep: str | None = None) -> None:
        excess = sum(self._sizes.values()) - self._max_bytes
        for digest in list(self._sizes):
            if excess <= 0:
                return
            if digest != keep and not self._is_held(digest):
                self._files.delete(digest)
                excess -= self._sizes.pop(digest)


def _age(found: tuple[os.stat_result, str]) -> tuple[int, str]:
    stat, digest = found
    return stat.st_mtime_ns, digest
