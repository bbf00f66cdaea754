"""Bytes on their way into the store: written to a file as they arrive, counted, hashed, and synced to disk.

Owns the handling of a full disk. Where a finished upload goes is up to the store.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headmix_server.core.errors import InsufficientStorage, PayloadTooLarge

# EFBIG is the error of a process's file size limit.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


Reserve = Callable[[int], None]
"""Reserves room for bytes before they are written; raises if there is none."""


def unreserved(size: int) -> None:
    """Accept any number of bytes."""
    del size


class Upload:
    """Bytes on their way in: `write` them, `finish`, then use `path`. One thread at a time.

    `kind` is what they are, in messages.
    """

    def __init__(self, path: Path, max_bytes: int, reserve: Reserve = unreserved, *, kind: str = "artifact") -> None:
        self.path = path
        self._kind = kind
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._reserve = reserve
        self._hash = hashlib.sha256()
        self._file: int | None = None
        with full_disk_told():
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    @property
    def digest(self) -> str:
        """The digest of what has been written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            PayloadTooLarge: more than the limit; the excess never reaches the disk.
            InsufficientStorage: the disk is full.
            HeadmixServerError: `reserve` refused the bytes; none of them reach the disk.
        """
        if self._file is None:
            raise ValueError("the upload is finished")
        if self.size_bytes + len(data) > self._max_bytes:
            raise PayloadTooLarge(
                f"The {self._kind} is larger than the limit of {self._max_bytes} bytes.", param="file"
            )
        self._reserve(len(data))
        rest = memoryview(data)
        with full_disk_told():
            while rest:
                rest = rest[os.write(self._file, rest) :]
        self._hash.update(data)
        self.size_bytes += len(data)

    def finish(self) -> None:
        """Sync the bytes to disk and close the file; a second call does nothing.

        Raises:
            InsufficientStorage: the disk is full.
        """
        if self._file is not None:
            with full_disk_told():
                os.fsync(self._file)
                self._close()

    def discard(self) -> None:
        """Close and remove the file, unless it was committed. Never fails: the next start removes what remains."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Turn the operating system's error for a full disk into the one that clients get.

    Raises:
        InsufficientStorage: the disk, or this process's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InsufficientStorage("The disk is full; nothing was stored.") from error
