"""The part of a bucket's artifacts that is on this machine: files, bounded in bytes, the least used going first.

Owns what may go. What is held stays, so a cache whose files are all in use may be larger than its bound until they
are not. Where files come from is `bucket_store`'s.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Upload


class ArtifactCache:
    """Files of at most `max_bytes` in all; `is_held` says which may not go. Safe to use from many threads."""

    def __init__(self, files: ArtifactStore, max_bytes: int, is_held: Callable[[str], bool]) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._is_held = is_held
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least used first
        self._lock = threading.Lock()

    def start(self) -> None:
        """Take in the files that are there, and trim them; unfinished ones are removed."""
        self._files.collect(frozenset(self._files.digests()))
        found = [(self._files.path(digest).stat(), digest) for digest in self._files.digests()]
        with self._lock:
            self._sizes = OrderedDict((digest, stat.st_size) for stat, digest in sorted(found, key=_age))
            self._trim()

    def use(self, digest: str) -> bool:
        """Return whether the file is there, and count it as just used. It stays while it is held: hold it first."""
        with self._lock:
            if digest not in self._sizes:
                return False
            self._sizes.move_to_end(digest)
            return True

    def add(self, upload: Upload) -> Path:
        """Put a complete file in, and others out where there are too many.

        Raises:
            InsufficientStorage: the disk is full.
        """
        path = self._files.commit(upload)  # outside the lock: it waits for the disk, and the event loop asks `use`
        with self._lock:
            self._sizes[upload.digest] = upload.size_bytes
            self._sizes.move_to_end(upload.digest)
            self._trim(keep=upload.digest)
        return path

    def drop(self, digest: str) -> None:
        """Remove a file if it exists, held or not."""
        with self._lock:
            self._sizes.pop(digest, None)
            self._files.delete(digest)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
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
