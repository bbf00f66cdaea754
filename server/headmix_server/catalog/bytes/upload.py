"""Bytes on their way into the store: written to a file as they arrive, counted, hashed, and put on the disk for good.

Owns what a full disk means. Where a finished upload goes is the store's to say.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headmix_server.core.errors import InsufficientStorage, PayloadTooLarge

# EFBIG is what a limit on the size of a process's files answers with.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


Reserve = Callable[[int], None]
"""Asks for room for bytes before they are written; raises if there is none."""


def unreserved(size: int) -> None:
    """Let everything in."""
    del size


class Upload:
    """Bytes on their way in: `write` them, `finish`, then look at `path`. One thread at a time."""

    def __init__(self, path: Path, max_bytes: int, reserve: Reserve = unreserved) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._reserve = reserve
        self._hash = hashlib.sha256()
        self._file: int | None = None
        with full_disk_told():
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            PayloadTooLarge: more than the limit, before they reach the disk.
            InsufficientStorage: the disk is full.
            HeadmixServerError: there is no room for them; none of them reach the disk.
        """
        if self._file is None:
            raise ValueError("the upload is finished")
        if self.size_bytes + len(data) > self._max_bytes:
            raise PayloadTooLarge(f"The artifact is larger than the limit of {self._max_bytes} bytes.", param="file")
        self._reserve(len(data))
        rest = memoryview(data)
        with full_disk_told():
            while rest:
                rest = rest[os.write(self._file, rest) :]
        self._hash.update(data)
        self.size_bytes += len(data)

    def finish(self) -> None:
        """Put the bytes on the disk for good and close the file; a second call does nothing.

        Raises:
            InsufficientStorage: the disk is full.
        """
        if self._file is not None:
            with full_disk_told():
                os.fsync(self._file)
                self._close()

    def discard(self) -> None:
        """Close and remove the file, unless it was committed. Never fails: the next start removes what stays."""
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
    """Turn the operating system's error for a full disk into the one clients get.

    Raises:
        InsufficientStorage: the disk, or the share of it this process may use, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InsufficientStorage("The disk is full; nothing was stored.") from error
