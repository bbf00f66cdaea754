"""Where artifacts are kept: what any store can do, and the one that is a folder.

    <root>/sha256/ab/<64 hex digits>.safetensors    a complete artifact; never changed, only removed
    <root>/incoming/<random>.safetensors            an upload that is not complete, or not committed yet
    <root>/incoming/<random>/                       what an upload is made from or into: a PEFT LoRA's conversion

A file appears under its digest by one rename after its bytes are on the disk, so a crash at any line leaves an
artifact or none; what an upload left behind is removed at the next start. A store knows neither names nor tenants.
"""

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headmix_server.catalog.bytes.upload import Reserve, Upload, full_disk_told, unreserved

SUFFIX = ".safetensors"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PLACE = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\.safetensors")


@dataclass(frozen=True, slots=True)
class Collected:
    """What `Store.collect` found: `removed` leftovers, and digests that are `missing` though they should be there."""

    removed: tuple[str, ...]
    missing: tuple[str, ...]


class Store(Protocol):
    """Artifacts by digest. One process writes to a store at a time; its methods block, but for `download`, and may
    be called by any thread.

    Each may raise StorageUnavailable where the store is somewhere else and cannot be reached.
    """

    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> AbstractContextManager[Upload]:
        """Give an upload to write into, on this machine; whatever is not committed by the end is gone.

        `reserve` is asked for the bytes' place before they are written, and may refuse.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def workspace(self) -> AbstractContextManager[Path]:
        """Give an empty folder on this machine for files on the way to an upload; it is gone by the end.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def commit(self, upload: Upload) -> Path:
        """Make the upload an artifact and return its file; an artifact with these bytes is replaced by them.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def path(self, digest: str) -> Path:
        """Return where the artifact's file is once it is `download`ed.

        Raises:
            ValueError: not of the form `sha256:<64 hex digits>`.
        """

    def is_local(self, digest: str) -> bool:
        """Tell without blocking whether `download` has nothing to do; true is a promise while the artifact is held."""

    async def download(self, digest: str) -> None:
        """Have the artifact's file on this machine; it stays while the artifact is held.

        Cancelled, it stops downloading and leaves nothing.

        Raises:
            ArtifactDamaged: its bytes are gone, or not those of the digest.
            InsufficientStorage: the disk is full.
        """

    def delete(self, digest: str) -> None:
        """Remove the artifact if it exists; readers with its file open can finish reading."""

    def collect(self, stored: Collection[str]) -> Collected:
        """Remove what is not among the digests that should be stored; call it at start, before anything is received."""


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
    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> Iterator[Upload]:
        """As `Store.receive`."""
        upload = Upload(self._incoming / f"{secrets.token_hex(16)}{SUFFIX}", max_bytes, reserve)
        try:
            yield upload
        finally:
            upload.discard()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """As `Store.workspace`."""
        folder = self._incoming / secrets.token_hex(16)
        with full_disk_told():
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, upload: Upload) -> Path:
        """As `Store.commit`."""
        upload.finish()
        target = self.path(upload.digest)
        with full_disk_told():
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                _sync_folder(self._artifacts)
            upload.path.replace(target)
            _sync_folder(target.parent)
        return target

    def path(self, digest: str) -> Path:
        """As `Store.path`; the file is always there."""
        return self._artifacts / place_of(digest)

    def is_local(self, digest: str) -> bool:
        """As `Store.is_local`: here they all are."""
        del digest
        return True

    async def download(self, digest: str) -> None:
        """As `Store.download`: there is nothing to do."""

    def delete(self, digest: str) -> None:
        """As `Store.delete`."""
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Yield the stored artifacts. Files with names the store would not have given are skipped."""
        for path in self._artifacts.glob(f"??/*{SUFFIX}"):
            digest = digest_at(f"{path.parent.name}/{path.name}")
            if digest is not None:
                yield digest

    def collect(self, stored: Collection[str]) -> Collected:
        """As `Store.collect`; unfinished uploads go too."""
        there = set(self.digests())
        leftovers = [*self._incoming.iterdir(), *(self.path(digest) for digest in sorted(there.difference(stored)))]
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return Collected(tuple(map(str, leftovers)), tuple(sorted(set(stored) - there)))


def place_of(digest: str) -> str:
    """Return an artifact's place below the folder or prefix of a store.

    Raises:
        ValueError: not of the form `sha256:<64 hex digits>`.
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(f"{digest!r} is not a digest")
    name = match.group(1)
    return f"{name[:2]}/{name}{SUFFIX}"


def digest_at(place: str) -> str | None:
    """Return the digest whose place this is, None if it is nobody's."""
    match = _PLACE.fullmatch(place)
    return None if match is None else f"sha256:{match.group(2)}"


def _sync_folder(folder: Path) -> None:
    """Make renames in and into the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
