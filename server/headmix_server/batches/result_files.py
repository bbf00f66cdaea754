"""Makes a batch's output and error file of its segments, each once however often the server dies meanwhile."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from headmix_server.batches.input_file import Bounds, read_lines
from headmix_server.batches.line import Unanswered, unanswered_line
from headmix_server.batches.request import BatchRequest, Progress, read_progress, written
from headmix_server.batches.segments import Segments
from headmix_server.core.errors import StorageUnavailable
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.stored_file import Purpose, StoredFile
from headmix_server.jobs.claims import Claim, ClaimLostError
from headmix_server.jobs.tables import JobRow


class ResultFiles:
    """The two files of one claimed batch; used by one thread at a time."""

    def __init__(self, engine: Engine, files: Files, claim: Claim, request: BatchRequest) -> None:
        self._engine = engine
        self._files = files
        self._claim = claim
        self._request = request

    def make(self, segments: Segments, source: BinaryIO, bounds: Bounds, progress: Progress, now: int) -> Progress:
        """Write the files that the job has no ids of yet; return the progress with both.

        Lines without an answer are in the error file.

        Raises:
            ClaimLostError: the batch is another's by now.
            HeadmixServerError: the store or the database cannot be reached; call it again later.
        """
        progress = self._with_recorded(progress)
        if progress.output_file_id is None:
            good = (entry.text for entry in segments.entries() if entry.is_ok)
            progress = self._add(good, "output", progress, now)
        if progress.error_file_id is None:
            progress = self._add(self._errors(segments, source, bounds, progress), "error", progress, now)
        return progress

    def _with_recorded(self, progress: Progress) -> Progress:
        """Return the progress with the ids in the job's row: a call that failed may have made the first file."""
        with reading(self._engine) as session:
            recorded = self._recorded(session)
        return msgspec.structs.replace(
            progress, output_file_id=recorded.output_file_id, error_file_id=recorded.error_file_id
        )

    def _recorded(self, session: Session) -> Progress:
        own = select(JobRow.progress).where(JobRow.id == self._claim.job.id, JobRow.owner == self._claim.owner)
        text = session.scalar(own)
        if text is None:
            raise ClaimLostError(f"the job {self._claim.job.id} is no longer this server's")
        return read_progress(text)

    def _errors(self, segments: Segments, source: BinaryIO, bounds: Bounds, progress: Progress) -> Iterator[bytes]:
        yield from (entry.text for entry in segments.entries() if not entry.is_ok)
        if progress.ending in ("expired", "cancelled") and progress.total:
            code: Unanswered = "batch_expired" if progress.ending == "expired" else "batch_cancelled"
            source.seek(0)
            for line in read_lines(source, bounds, skipped=segments.done):
                yield unanswered_line(self._claim.job.id, line, code)

    def _add(self, lines: Iterable[bytes], kind: str, progress: Progress, now: int) -> Progress:
        """Store lines as a file and record its id in the job, in one transaction; without any, there is no file."""
        changed = progress

        def also(session: Session, file: StoredFile) -> None:
            nonlocal changed
            if _file_id(self._recorded(session), kind) is not None:
                raise StorageUnavailable("An earlier try has stored the file by now.")
            changed = _with_file(progress, kind, file.id)
            session.execute(update(JobRow).where(JobRow.id == self._claim.job.id).values(progress=written(changed)))

        name = f"{self._claim.job.id}_{kind}.jsonl"
        expires = None if self._request.output_seconds is None else now + self._request.output_seconds
        with self._files.bytes.receive(max_bytes=2**63 - 1) as upload:
            size = 0
            for line in lines:
                upload.write(line + b"\n")
                size += 1
            if size:
                tenant = self._claim.job.tenant
                self._files.add(tenant, Purpose.BATCH_OUTPUT, name, upload, expires=expires, also=also)
        return changed


def _with_file(progress: Progress, kind: str, file_id: str) -> Progress:
    if kind == "output":
        return msgspec.structs.replace(progress, output_file_id=file_id)
    return msgspec.structs.replace(progress, error_file_id=file_id)


def _file_id(progress: Progress, kind: str) -> str | None:
    return progress.output_file_id if kind == "output" else progress.error_file_id
