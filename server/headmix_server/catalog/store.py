"""The artifacts' files, each under the digest of its bytes.

    <root>/sha256/ab/<64 hex digits>.safetensors    a complete artifact; never changed, only removed
    <root>/incoming/<random>.safetensors            an upload that is not complete, or not committed yet

A file appears under its digest by one rename after its bytes are on the disk, so a crash at any line leaves an
artifact or none; what an upload left behind is removed at the next start. The store knows neither names nor tenants.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headmix_server.core.errors import InsufficientStorage, PayloadTooLarge

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".safetensors"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Upload:
    """Bytes on their way in: `write` them, `finish`, then look at `path`. One thread at a time."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._file: int | None = None
        with _full_disk_told():
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
        """
        if self._file is None:
            raise ValueError("the upload is finished")
        if self.size_bytes + len(data) > self._max_bytes:
            raise PayloadTooLarge(f"The artifact is larger than the limit of {self._max_bytes} bytes.", param="file")
        rest = memoryview(data)
        with _full_disk_told():
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
            with _full_disk_told():
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


@dataclass(frozen=True, slots=True)
class Collected:
    """What `ArtifactStore.collect` found: `removed` leftovers, and digests that are `missing` though referred to."""

    removed: tuple[Path, ...]
    missing: tuple[str, ...]


class ArtifactStore:
    """The content-addressed files under one folder, which is created. Only one process may use a folder at a time."""

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._artifacts = root / "sha256"
        root.mkdir(parents=True, exist_ok=True)
        for folder in (self._incoming, self._artifacts):
            folder.mkdir(exist_ok=True)
        _sync_folder(root)

    @contextmanager
    def receive(self, *, max_bytes: int) -> Iterator[Upload]:
        """Give an upload to write into; whatever is not committed by the end is gone.

        Raises:
            InsufficientStorage: the disk is full.
        """
        upload = Upload(self._incoming / f"{secrets.token_hex(16)}{_SUFFIX}", max_bytes)
        try:
            yield upload
        finally:
            upload.discard()

    def commit(self, upload: Upload) -> Path:
        """Make the upload an artifact and return its path; an artifact with these bytes is replaced by them.

        Raises:
            InsufficientStorage: the disk is full.
        """
        upload.finish()
        target = self.path(upload.digest)
        with _full_disk_told():
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                _sync_folder(self._artifacts)
            upload.path.replace(target)
            _sync_folder(target.parent)
        return target

    def path(self, digest: str) -> Path:
        """Return where the artifact is, or would be.

        Raises:
            ValueError: not of the form `sha256:<64 hex digits>`.
        """
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"{digest!r} is not a digest")
        name = match.group(1)
        return self._artifacts / name[:2] / f"{name}{_SUFFIX}"

    def delete(self, digest: str) -> None:
        """Remove the artifact where it is there; whoever has it open can go on reading."""
        self.path(digest).unlink(missing_ok=True)

    def collect(self, referenced: Collection[str]) -> Collected:
        """Remove unfinished uploads and artifacts nobody refers to; call it at start, before anything is received."""
        leftovers = list(self._incoming.iterdir())
        there = set()
        for path in self._artifacts.glob(f"??/*{_SUFFIX}"):
            # Names the store would not have given are somebody else's files: left alone.
            if _HEX.fullmatch(path.stem) is None or path.parent.name != path.stem[:2]:
                continue
            digest = f"sha256:{path.stem}"
            there.add(digest)
            if digest not in referenced:
                leftovers.append(path)
        for path in leftovers:
            path.unlink(missing_ok=True)
        return Collected(tuple(leftovers), tuple(digest for digest in sorted(referenced) if digest not in there))


def _sync_folder(folder: Path) -> None:
    """Make renames in and into the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InsufficientStorage("The disk is full; nothing was stored.") from error
