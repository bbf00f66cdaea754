"""The answered lines of a batch, stored in segments while it runs: what a crash leaves to start from.

A segment is a stored file whose digest is a checkpoint of the job, so any machine finds it. It is stored first and
recorded second, in one transaction: a line is answered once its segment is recorded, and computed again otherwise.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, select

from headmix_server.batches.request import Counts, read_counts, written
from headmix_server.catalog.bytes.upload import full_disk_told
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.staging import Staging
from headmix_server.jobs.claims import Claim, Claims
from headmix_server.jobs.tables import JobCheckpointRow

SECONDS = 10.0
LINES = 500
BYTES = 4 << 20
"""A segment is stored once it has waited for so long, or has so many lines or bytes."""

_KEEP_ALL = 1 << 30


class Entry(NamedTuple):
    """An answered line: its number, whether it goes to the output file, and its text there."""

    number: int
    is_ok: bool
    text: bytes


class Segments:
    """The segments of one claimed batch. `clock` is monotonic, in seconds.

    Several threads may `store`: the one of a run that was cancelled ends on its own.
    """

    def __init__(
        self,
        engine: Engine,
        files: Files,
        claims: Claims,
        claim: Claim,
        folder: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._files = files
        self._claims = claims
        self._claim = claim
        self._folder = folder
        self._clock = clock
        self._storing = threading.Lock()
        self._open: list[Entry] = []
        self._open_bytes = 0
        self._since = clock()
        self._counts = Counts()
        self._digests: list[str] = []
        self.recorded = Counts()
        self.done: set[int] = set()

    def resume(self) -> None:
        """Read which lines earlier runs have answered.

        Raises:
            HeadmixServerError: the store or the database cannot be reached; nothing was read, call it again later.
        """
        digests, recorded = list[str](), Counts()
        query = select(JobCheckpointRow).where(JobCheckpointRow.job_id == self._claim.job.id)
        with reading(self._engine) as session:
            for row in session.scalars(query.order_by(JobCheckpointRow.step)):
                if row.digest is None:
                    raise ValueError(f"the segment {row.step} of {row.job_id} has no bytes")
                digests.append(row.digest)
                recorded = recorded.plus(read_counts(row.metrics))
        done = {entry.number for entry in self._read(digests)}
        self._digests, self.recorded, self.done = digests, recorded, done

    def add(self, entry: Entry, counts: Counts) -> None:
        """Add an answered line; it is recorded by the next `store`."""
        if not self._open:
            self._since = self._clock()
        self._open.append(entry)
        self._open_bytes += len(entry.text)
        self._counts = self._counts.plus(counts)
        self.done.add(entry.number)

    @property
    def is_due(self) -> bool:
        """Whether what was added should be stored now."""
        if not self._open:
            return False
        waited = self._clock() - self._since
        return waited >= SECONDS or len(self._open) >= LINES or self._open_bytes >= BYTES

    def store(self) -> None:
        """Store and record what was added.

        Raises:
            ClaimLostError: the batch is another's by now.
            HeadmixServerError: the store or the database cannot be reached, or a disk is full; call it again later.
        """
        with self._storing:
            if self._open:
                self._store()

    def _store(self) -> None:
        stored, counts = list(self._open), self._counts
        step = len(self._digests) + 1
        with self._files.staging() as staging:
            digest, size = self._put(stored, staging)
            self._claims.add_checkpoint(
                self._claim, step=step, digest=digest, size_bytes=size, metrics=written(counts), keep=_KEEP_ALL
            )
        self._digests.append(digest)
        self.recorded = self.recorded.plus(counts)
        self._open, self._open_bytes, self._counts = [], 0, Counts()

    def _put(self, entries: Sequence[Entry], staging: Staging) -> tuple[str, int]:
        with full_disk_told(), tempfile.NamedTemporaryFile(dir=self._folder, prefix="segment-") as file:
            for entry in entries:
                file.write(b"%c%d %s\n" % (b"O" if entry.is_ok else b"E", entry.number, entry.text))
            file.flush()
            os.fsync(file.fileno())
            return staging.put(Path(file.name)), file.tell()

    def entries(self) -> Iterator[Entry]:
        """Yield all recorded lines, in the order in which they were answered."""
        yield from self._read(self._digests)

    def _read(self, digests: Iterable[str]) -> Iterator[Entry]:
        for digest in digests:
            with self._files.open_bytes(digest) as file:
                for line in file:
                    number, _, text = line.removesuffix(b"\n").partition(b" ")
                    yield Entry(int(number[1:]), number.startswith(b"O"), text)
