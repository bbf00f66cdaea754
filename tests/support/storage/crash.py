"""Faults at a chosen call to the operating system or a bucket, in this process or (if run as a module) a real kill -9.

python -m tests.support.storage.crash FOLDER SCENARIO CALL
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import obstore

from harness.adapters.records import BASE, record_of
from headmix_server.catalog.bytes.bucket import open_bucket
from headmix_server.catalog.bytes.bucket_store import BucketStore
from headmix_server.catalog.bytes.holds import Holds
from headmix_server.catalog.bytes.store import ArtifactStore, Store
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.database import open_database

CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir")
BUCKET_CALLS = ("put", "delete")
BUCKET = "bucket.url"
"""The file in a folder that names its artifacts' bucket; without it they are in the folder."""
OLD, NEW = b"old" * 50_000, b"new" * 50_000


class Crash(BaseException):
    """The process is gone: no error handler may see it."""


@dataclass
class Calls:
    """Counts the watched calls."""

    count: int = 0


@contextmanager
def crash_at(call: int) -> Iterator[Calls]:
    """Make the process crash at the given call (the first is 1); if that is a write, half of it is done."""

    def act(name: str, real: Callable[..., Any], count: int, arguments: tuple[Any, ...]) -> None:
        if count == call and name == "write":
            real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if count >= call:
            raise Crash

    with _watched(act) as calls:
        yield calls


@contextmanager
def disk_full_at(call: int) -> Iterator[Calls]:
    """Make only the given call find the disk full."""

    def act(name: str, real: Callable[..., Any], count: int, arguments: tuple[Any, ...]) -> None:
        if count == call:
            if name == "close":
                real(*arguments)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with _watched(act) as calls:
        yield calls


@contextmanager
def killed_at(call: int) -> Iterator[None]:
    """Kill this process at the given call."""

    def act(_: str, __: Callable[..., Any], count: int, ___: tuple[Any, ...]) -> None:
        if count == call:
            os.kill(os.getpid(), signal.SIGKILL)

    with _watched(act):
        yield


def open_library(folder: Path) -> Library:
    """Open catalog and store under the folder, as a server does at startup."""
    catalog, holds = Catalog(open_database(folder / "catalog.db")), Holds()
    return Library(catalog, _open_store(folder, catalog, holds), base=BASE.fingerprint, holds=holds)


def _open_store(folder: Path, catalog: Catalog, holds: Holds) -> Store:
    if not (folder / BUCKET).exists():
        return ArtifactStore(folder / "artifacts")
    return BucketStore(
        open_bucket((folder / BUCKET).read_text()),
        folder / "artifacts",
        owner=catalog.identity(),
        cache_bytes=1 << 20,
        is_held=holds.is_held,
        young=timedelta(0),
    )


def publish(library: Library, content: bytes) -> None:
    """Upload the content as acme's adapter `a`."""
    with library.store.receive(max_bytes=len(content)) as upload:
        for start in range(0, len(content), 65536):
            upload.write(content[start : start + 65536])
        upload.finish()
        library.publish("acme", "a", upload, record_of(content))


def run_scenario(library: Library, scenario: str) -> None:
    """Replace the adapter (`publish`) or delete it (`delete`)."""
    if scenario == "publish":
        publish(library, NEW)
    else:
        library.delete("acme", "a")


@contextmanager
def _watched(act: Callable[[str, Callable[..., Any], int, tuple[Any, ...]], None]) -> Iterator[Calls]:
    calls = Calls()

    def watch(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.count += 1
            act(name, real, calls.count, arguments)
            return real(*arguments, **named)

        return call

    with ExitStack() as stack:
        for module, names in ((os, CALLS), (obstore, BUCKET_CALLS)):
            for name in names:
                stack.enter_context(patch.object(module, name, watch(name, getattr(module, name))))
        yield calls


def main(folder: str, scenario: str, call: str) -> None:
    """Run the scenario in the folder and be killed at the call."""
    library = open_library(Path(folder))
    with killed_at(int(call)):
        run_scenario(library, scenario)


if __name__ == "__main__":
    main(*sys.argv[1:])
