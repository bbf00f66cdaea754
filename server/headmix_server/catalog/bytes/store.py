"""Where artifacts are stored: the interface of any store, and the store that is a folder.

    <root>/sha256/ab/<64 hex digits>.safetensors    a complete artifact; never changed, only removed
    <root>/incoming/<random>.safetensors            an upload that is incomplete or not committed yet
    <root>/incoming/<random>/                       files of an upload's conversion from a PEFT LoRA

A file appears under its digest by one rename after its bytes are on the disk, so a crash at any line leaves a complete
artifact or none; the next start removes what an unfinished upload left. A store knows neither names nor tenants.
"""

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headmix_server.catalog.bytes.upload import Reserve, Upload, full_disk_told, unreserved

SUFFIX = ".safetensors"
"""How an artifact's name ends."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PLACE = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})")


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of `Store.collect`: `removed` leftovers, and `missing` digests that should have been stored."""

    removed: tuple[str, ...]
    missing: tuple[str, ...]


class Store(Protocol):
    """Artifacts by digest. One process writes to a store at a time; methods other than `download` block, and may be
    called by any thread.

    Each may raise StorageUnavailable if the store is remote and cannot be reached.
    """

    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> AbstractContextManager[Upload]:
        """Yield an upload to write into, on this machine; it is discarded at the end unless committed.

        `reserve` is called with the number of bytes before they are written, and may refuse them.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def workspace(self) -> AbstractContextManager[Path]:
        """Yield an empty local folder for files that an upload is made from; it is removed at the end.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def commit(self, upload: Upload) -> Path:
        """Make the upload an artifact and return its file; it replaces an artifact with the same bytes.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def path(self, digest: str) -> Path:
        """Return where the artifact's file is once it is `download`ed.

        Raises:
            ValueError: it is not of the form `sha256:<64 hex digits>`.
        """

    def is_local(self, digest: str) -> bool:
        """Return without blocking whether the file is local; if true, it remains local while the artifact is held."""

    async def download(self, digest: str) -> None:
        """Ensure that the artifact's file is on this machine; it stays while the artifact is held.

        If cancelled, it stops downloading and leaves nothing behind.

        Raises:
            ArtifactDamaged: its bytes are missing, or do not match the digest.
            InsufficientStorage: the disk is full.
        """

    def delete(self, digest: str) -> None:
        """Remove the artifact if it exists; readers with its file open can finish reading."""

    def collect(self, stored: Collection[str]) -> Collected:
        """Remove artifacts that are not in `stored`; call it at startup, before receiving anything."""


class ArtifactStore:
    """The content-addressed files in one folder, which is created.

    `suffix` is how their names end, `kind` what they are in messages. Several processes may receive and commit at once;
    only one may remove anything.
    """

    def __init__(self, root: Path, *, suffix: str = SUFFIX, kind: str = "artifact") -> None:
        self._suffix = suffix
        self._kind = kind
        self._incoming = root / "incoming"
        self._artifacts = root / "sha256"
        root.mkdir(parents=True, exist_ok=True)
        for folder in (self._incoming, self._artifacts):
            folder.mkdir(exist_ok=True)
        _sync_folder(root)

    @contextmanager
    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> Iterator[Upload]:
        """As `Store.receive`."""
        path = self._incoming / f"{secrets.token_hex(16)}{self._suffix}"
        upload = Upload(path, max_bytes, reserve, kind=self._kind)
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
        """As `Store.path`; the file is always local."""
        return self._artifacts / place_of(digest, self._suffix)

    def is_local(self, digest: str) -> bool:
        """As `Store.is_local`: all files are local."""
        del digest
        return True

    async def download(self, digest: str) -> None:
        """As `Store.download`: there is nothing to do."""

    def delete(self, digest: str) -> None:
        """As `Store.delete`."""
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Yield the digests of the stored artifacts. Files whose names the store would not have given are skipped."""
        for path in self._artifacts.glob(f"??/*{self._suffix}"):
            digest = digest_at(f"{path.parent.name}/{path.name}", self._suffix)
            if digest is not None:
                yield digest

    def abandoned(self, *, before: float) -> Iterator[Path]:
        """Yield unfinished uploads and workspaces that were last changed before a time in Unix seconds."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):  # finished in the meantime
                if path.stat().st_mtime < before:
                    yield path

    def collect(self, stored: Collection[str]) -> Collected:
        """As `Store.collect`; unfinished uploads are removed as well."""
        there = set(self.digests())
        leftovers = [*self._incoming.iterdir(), *(self.path(digest) for digest in sorted(there.difference(stored)))]
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return Collected(tuple(map(str, leftovers)), tuple(sorted(set(stored) - there)))


def place_of(digest: str, suffix: str = SUFFIX) -> str:
    """Return an artifact's path below the folder or prefix of a store whose names have this suffix.

    Raises:
        ValueError: it is not of the form `sha256:<64 hex digits>`.
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(f"{digest!r} is not a digest")
    name = match.group(1)
    return f"{name[:2]}/{name}{suffix}"


def digest_at(place: str, suffix: str = SUFFIX) -> str | None:
    """Return the digest that this path belongs to, or None."""
    match = _PLACE.fullmatch(place.removesuffix(suffix)) if place.endswith(suffix) else None
    return None if match is None else f"sha256:{match.group(2)}"


def _sync_folder(folder: Path) -> None:
    """Make renames within and into the folder survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
