"""Bytes that are stored before anything refers to them, such as a job's checkpoint, and held until something does."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from headmix_server.catalog.bytes.upload import Upload
from headmix_server.files.writer import BytesWriter


class Staging:
    """Holds what is `put` until `end`; then only what is referred to stays. One thread at a time.

    `receive` yields an upload with a local file's bytes.
    """

    def __init__(self, writer: BytesWriter, receive: Callable[[Path], AbstractContextManager[Upload]]) -> None:
        self._writer = writer
        self._receive = receive
        self._holds: dict[str, str] = {}

    def put(self, path: Path) -> str:
        """Store a local file's bytes and return their digest. Doing so again stores nothing and renews the hold.

        Raises:
            InsufficientStorage, StorageUnavailable: nothing was stored.
        """
        with self._receive(path) as upload:
            digest = upload.digest
            hold = self._holds.get(digest)
            if hold is None or not self._writer.renew(hold):
                self._holds[digest] = self._writer.stage(upload)
            return digest

    def end(self) -> None:
        """End the holds so far. Never fails: without the database, they end by themselves after a day."""
        if self._holds:
            self._writer.release({hold: digest for digest, hold in self._holds.items()})
            self._holds = {}
