"""Owns writing a download to disk: complete and with the announced digest, or not at all."""

import errno
import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from headmix.errors import DigestMismatchError
from headmix.http.response import meta_of
from headmix.http.upload import Progress


def check_digest(found: str, announced: str | None) -> None:
    """Raise DigestMismatchError if a digest (`sha256:<hex>`) was announced and differs from the actual one."""
    if announced is not None and announced != found:
        raise DigestMismatchError(f"downloaded bytes have digest {found}, the server announced {announced}")


def digest_of(content: bytes) -> str:
    """Return the digest of bytes as the server writes it: `sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FileSink:
    """Takes the blocks of one download; on exit without an error the file appears at `destination`, otherwise nothing.

    Blocks go to a temporary file in the same folder, which is renamed to the destination once its digest matches.
    """

    def __init__(
        self, destination: str | os.PathLike[str], size: int | None, digest: str | None, progress: Progress | None
    ) -> None:
        self.path = Path(destination)
        self._size = size
        self._announced = digest
        self._progress = progress
        self._hash = hashlib.sha256()
        self._done = 0

    @classmethod
    def of(
        cls, response: httpx2.Response, destination: str | os.PathLike[str], progress: Progress | None
    ) -> "FileSink":
        """Return a sink for a response's body, with the size and digest from its headers."""
        length = response.headers.get("content-length", "")
        meta = meta_of(response)
        digest = meta.digest if meta.adapter is None else meta.adapter.digest
        return cls(destination, int(length) if length.isdigit() else None, digest, progress)

    def __enter__(self) -> Self:
        folder = self.path.parent
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
        self._part = folder / f".{self.path.name}.{secrets.token_hex(8)}.part"
        self._file = self._part.open("xb")
        return self

    def write(self, block: bytes) -> None:
        """Append one block."""
        self._file.write(block)
        self._hash.update(block)
        self._done += len(block)

    def report(self) -> None:
        """Report the bytes so far to the progress callback; separate from `write`, which may run in another thread."""
        if self._progress is not None:
            self._progress(self._done, self._size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                check_digest(f"sha256:{self._hash.hexdigest()}", self._announced)
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)
