"""One batch from its claim to its end: checks its file, answers its lines, makes its result files.

Owns the order of these steps and what ends them: the last line, the end of its window, its tenant's wish, a key that
was revoked, or the server's stop. How a line is answered is the caller's.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from headmix_server.batches.answer_body import counts_of, error_code
from headmix_server.batches.held_models import HeldModels
from headmix_server.batches.input_file import Bounds, Checked, Fault, check_in_parts, read_lines
from headmix_server.batches.line import Answer, Line, Rest, answered_line
from headmix_server.batches.request import Counts, End, Status, read_progress, read_request, written
from headmix_server.batches.result_files import ResultFiles
from headmix_server.batches.segments import Entry, Segments
from headmix_server.batches.threads import in_thread
from headmix_server.batches.turns import Turn
from headmix_server.batches.window import OPEN_BYTES, Window
from headmix_server.catalog.bytes.upload import full_disk_told
from headmix_server.catalog.library import Library
from headmix_server.core.errors import HeadmixServerError, InsufficientStorage, ServerOverloaded, StorageUnavailable
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.tables import FileHoldRow
from headmix_server.jobs.claims import Claim, ClaimLostError, Claims, Outcome
from headmix_server.jobs.job import NewEvent
from headmix_server.jobs.tables import JobRow

BEAT_SECONDS = 3.0
RETRY_SECONDS = 5.0
MOST_ATTEMPTS = 3
"""Attempts that may end in an unexpected error without a new segment; a new segment resets their count."""

MOST_DEATHS = 5
"""How often a line is sent again after the engine died while it was open."""

T = TypeVar("T")


Ask = Callable[[Claim, str, Line, HeldModels, Rest], Awaitable[Answer]]
"""Answers a line of a claimed batch as a request to the endpoint would be; cancelling it aborts the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What running batches takes. `until_ready` waits until lines can be answered, `limit_of` returns how many open
    lines a tenant may have (0: no limit), `is_revoked` whether a tenant's key was revoked. `folder` is for temporary
    files; `on_line` is called with the code of each line's outcome, `on_end` with each batch's last status.
    """

    engine: Engine
    files: Files
    claims: Claims
    library: Library
    ask: Ask
    until_ready: Callable[[], Awaitable[None]]
    limit_of: Callable[[str], int]
    is_revoked: Callable[[str, str], bool]
    on_line: Callable[[str], None]
    on_end: Callable[[str], None]
    window: Window
    bounds: Bounds
    folder: Path
    clock: Callable[[], float] = time.time
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)


class BatchRun:
    """One claimed batch. `held` are its models, which the caller releases: a batch that waits for its turn keeps them.

    `turn` is its time at its place. `has_yielded` is whether it is queued again because it was asked to.
    """

    def __init__(self, parts: Parts, claim: Claim, held: HeldModels) -> None:
        self._parts = parts
        self._claim = claim
        self._held = held
        self.has_yielded = False
        self.turn = Turn()
        self._looked = asyncio.Event()
        self._request = read_request(claim.job.request)
        self._progress = read_progress(claim.job.progress)
        self._ending: End | None = self._progress.ending
        self._changed = asyncio.Event()
        self._log = get_logger("batches")

    async def run(self) -> None:
        """Run the batch to its end; cancelled, it stores what is answered and leaves the rest to a later claim."""
        self._log.info("batch claimed", batch=self._claim.job.id, tenant=self._claim.job.tenant)
        try:
            async with self._beating():
                await self._looked.wait()
                await self._run()
            if self.has_yielded:
                await self._patiently(lambda: self._parts.claims.requeue(self._claim, attempts=0))
        except ClaimLostError:
            self.has_yielded = False
            self._log.warning("batch taken over", batch=self._claim.job.id)
        except asyncio.CancelledError:
            await asyncio.shield(self._release(attempts=0))
            raise
        except Exception:  # noqa: BLE001 - a bug, or stored bytes that are damaged; another attempt may do better
            self._log.exception("batch interrupted", batch=self._claim.job.id)
            await self._give_up()

    async def _give_up(self) -> None:
        """Leave the batch to another attempt, or end it after the last."""
        self.has_yielded = False
        if self._claim.job.attempts < MOST_ATTEMPTS:
            await self._release(attempts=self._claim.job.attempts)
            return
        fault = Fault(code="internal_error", message="The server could not run this batch; its log has the reason.")
        self._progress = msgspec.structs.replace(self._progress, faults=[fault], ending="failed")
        self._reach("failed")
        with suppress(ClaimLostError, HeadmixServerError):
            await asyncio.to_thread(self._end, "failed", "The server could not run the batch.")

    async def _release(self, *, attempts: int) -> None:
        """Queue the batch again; a wish to cancel it stays, so that its answered lines become its files."""
        with suppress(HeadmixServerError):
            await asyncio.to_thread(self._parts.claims.requeue, self._claim, attempts=attempts)

    def leave(self) -> None:
        """Give the place to another batch soon: no further line begins, and those that are computed may end.

        Lines that take longer than a turn may begin anew in the next, if this one has answered any at all.
        """
        self.turn.end()
        self._changed.set()

    async def _run(self) -> None:
        async with self._workspace() as (folder, source):
            segments = Segments(self._parts.engine, self._parts.files, self._parts.claims, self._claim, folder)
            await self._patiently(segments.resume)
            if self._progress.status == "validating" and self._ending is None:
                await self._validate(source)
            if self._progress.status == "in_progress" and self._ending is None:
                self.has_yielded = not await self._answer_all(source, segments) and self._ending is None
            if self.has_yielded:
                await self._save()
                self._log.info("batch waits for its next turn", batch=self._claim.job.id)
                return
            await self._finish(source, segments)

    @asynccontextmanager
    async def _workspace(self) -> AsyncIterator[tuple[Path, BinaryIO]]:
        """Yield a temporary folder and the input file, a copy in it."""
        folder = Path(await self._patiently(lambda: tempfile.mkdtemp(dir=self._parts.folder)))
        try:
            digest = await self._patiently(self._input_digest)
            await self._patiently(lambda: self._parts.files.fetch(digest, folder / "input.jsonl"))
            with (folder / "input.jsonl").open("rb") as source:
                yield folder, source
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _input_digest(self) -> str:
        with reading(self._parts.engine) as session:
            return session.scalars(select(FileHoldRow.digest).where(FileHoldRow.holder == self._claim.job.id)).one()

    # --- checking ----------------------------------------------------------------------------------------------------

    async def _validate(self, source: BinaryIO) -> None:
        checked = Checked()
        parts = check_in_parts(source, self._request.endpoint, self._parts.bounds, checked)
        while await self._check_part(parts):
            if self._ending is not None:
                return
        if checked.faults:
            self._progress = msgspec.structs.replace(self._progress, faults=checked.faults)
            self._ending = "failed"
            return
        self._reach("in_progress", total=checked.total, models=dict.fromkeys(checked.models))
        await self._save()

    async def _check_part(self, parts: Iterator[None]) -> bool:
        """Check the next part of the file, no other batch's at the same time; return whether there may be more."""
        async with self._parts.checking:
            return await asyncio.to_thread(lambda: any(True for _ in islice(parts, 1)))

    async def _hold_models(self) -> None:
        models = await self._patiently(lambda: self._held.hold(self._progress.models))
        self._progress = msgspec.structs.replace(self._progress, models=models)
        await self._save()

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _answer_all(self, source: BinaryIO, segments: Segments) -> bool:
        """Answer the lines that have no answer yet, until all have one, the batch ends otherwise, or it is to leave.

        Return whether all have one.
        """
        self._parts.window.enter()
        open_lines: dict[asyncio.Task[Answer], Line] = {}
        try:
            await self._hold_models()
            source.seek(0)
            lines = read_lines(source, self._parts.bounds, skipped=frozenset(segments.done))
            return await self._answer(lines, open_lines, segments)
        finally:
            self._parts.window.leave()
            for task in open_lines:
                task.cancel()
            await asyncio.gather(*open_lines, return_exceptions=True)
            await asyncio.shield(self._store_last(segments))

    async def _answer(
        self, lines: Iterator[Line], open_lines: dict[asyncio.Task[Answer], Line], segments: Segments
    ) -> bool:
        following = await asyncio.to_thread(next, lines, None)
        while self._ending is None and (following is not None or open_lines):
            if self.turn.may_leave(len(open_lines)):
                return False
            while following is not None and self._has_room(open_lines, following):
                task = asyncio.create_task(self._answer_line(following))
                open_lines[task] = following
                following = await asyncio.to_thread(next, lines, None)
            await self._wait(open_lines)
            for task in [task for task in open_lines if task.done()]:
                self._take(open_lines.pop(task), task.result(), segments)
            if segments.is_due:
                await self._store(segments)
        return self._ending is None

    def _has_room(self, open_lines: dict[asyncio.Task[Answer], Line], line: Line) -> bool:
        share = self._parts.window.share(self._parts.limit_of(self._claim.job.tenant))
        taken = sum(len(one.body) for one in open_lines.values())
        may_begin = self._ending is None and not self.turn.is_ending
        return may_begin and (not open_lines or (len(open_lines) < share and taken + len(line.body) <= OPEN_BYTES))

    async def _wait(self, open_lines: dict[asyncio.Task[Answer], Line]) -> None:
        """Wait until a line is answered or the batch is to end; not for long, since the window may have grown."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({*open_lines, changed}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            self._changed.clear()

    async def _answer_line(self, line: Line) -> Answer:
        """Return a line's answer; refusals that pass are waited for."""
        deaths = 0
        while True:
            with self.turn.rest():
                await self._parts.until_ready()
            answer = await self._parts.ask(self._claim, self._request.endpoint, line, self._held, self.turn.rest)
            if answer.retry_after is None:
                return answer
            deaths += error_code(answer) == "engine_unavailable"
            if deaths >= MOST_DEATHS:
                return answer
            with self.turn.rest():
                await asyncio.sleep(max(0.1, min(answer.retry_after, 30.0)))

    def _take(self, line: Line, answer: Answer, segments: Segments) -> None:
        text = answered_line(self._claim.job.id, line, answer)
        segments.add(Entry(line.number, answer.is_ok, text), counts_of(answer))
        self.turn.answered()
        self._parts.on_line("ok" if answer.is_ok else error_code(answer) or "error")

    async def _store(self, segments: Segments) -> None:
        await self._patiently(segments.store)
        self._progress = msgspec.structs.replace(self._progress, counts=segments.recorded)
        await self._save()

    async def _store_last(self, segments: Segments) -> None:
        """Store what is answered when the run ends, also if the server stops; what fails now is answered again."""
        try:
            await asyncio.to_thread(segments.store)
        except HeadmixServerError as error:
            self._log.warning("answers not stored", batch=self._claim.job.id, reason=error.message)
        self._progress = msgspec.structs.replace(self._progress, counts=segments.recorded)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _finish(self, source: BinaryIO, segments: Segments) -> None:
        await self._patiently(segments.store)
        ending: End = self._ending or "completed"
        self._progress = msgspec.structs.replace(self._progress, ending=ending, counts=segments.recorded)
        if ending != "failed" or segments.done:
            self._reach("finalizing")
            await self._save()
            files = ResultFiles(self._parts.engine, self._parts.files, self._claim, self._request)
            now = int(self._parts.clock())

            def make() -> None:
                self._progress = files.make(segments, source, self._parts.bounds, self._progress, now)

            await self._patiently(make)
        self._reach(ending)
        outcome: Outcome = "succeeded" if ending == "completed" else ending
        counts = segments.recorded
        message = f"The batch is {ending}: {counts.completed} lines answered, {counts.failed} failed."
        await self._patiently(lambda: self._end(outcome, message))
        self._parts.on_end(ending)
        self._log.info("batch ended", batch=self._claim.job.id, status=ending, **_shown(counts))

    def _end(self, outcome: Outcome, message: str) -> None:
        self._parts.claims.end(self._claim, outcome, events=[NewEvent(message)], within=self._write_end)

    def _write_end(self, session: Session) -> None:
        own = update(JobRow).where(JobRow.id == self._claim.job.id)
        session.execute(own.values(progress=written(self._progress)))

    # --- progress ----------------------------------------------------------------------------------------------------

    def _reach(self, status: Status, **changes: object) -> None:
        reached = {**self._progress.reached, status: int(self._parts.clock())}
        self._progress = msgspec.structs.replace(self._progress, status=status, reached=reached, **changes)

    async def _save(self) -> None:
        text = written(self._progress)
        await self._patiently(lambda: self._renew(progress=text))

    def _renew(self, *, worked: float = 0.0, progress: str | None = None) -> str | None:
        return self._parts.claims.renew(self._claim, worked=worked, progress=progress)

    @asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        """Renew the claim, and look for reasons to end, while the block runs; a lost claim cancels the block."""
        own = asyncio.current_task()
        lost = False

        def look(task: asyncio.Task[None]) -> None:
            nonlocal lost
            if not task.cancelled() and isinstance(task.exception(), ClaimLostError) and own is not None:
                lost = True
                own.cancel()

        beats = asyncio.create_task(self._beat())
        beats.add_done_callback(look)
        try:
            yield
        except asyncio.CancelledError:
            if lost:
                raise ClaimLostError(self._claim.job.id) from None
            raise
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            try:
                await self._look()
            except HeadmixServerError as error:
                self._log.warning("batch not renewed", batch=self._claim.job.id, reason=error.message)
            finally:
                self._looked.set()
            await asyncio.sleep(BEAT_SECONDS)

    async def _look(self) -> None:
        """Renew the claim; decide whether the batch is to end now."""
        wanted = await in_thread(lambda: self._renew(worked=BEAT_SECONDS))
        if self._ending is not None or self._progress.status not in ("validating", "in_progress"):
            return
        key = self._request.key_id
        if wanted == "cancel":
            self._ending = "cancelled"
            self._note("cancelling")
        elif self._parts.clock() >= self._request.expires:
            self._ending = "expired"
        elif key is not None and await in_thread(lambda: self._parts.is_revoked(self._claim.job.tenant, key)):
            fault = Fault(code="invalid_api_key", message="The key that created the batch has been revoked.")
            self._progress = msgspec.structs.replace(self._progress, faults=[fault])
            self._ending = "failed"
        if self._ending is not None:
            self._changed.set()

    def _note(self, moment: str) -> None:
        reached = {**self._progress.reached, moment: int(self._parts.clock())}
        self._progress = msgspec.structs.replace(self._progress, reached=reached)

    async def _patiently(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread; while store or database cannot be reached, or a disk is full, try again."""
        while True:
            try:
                with full_disk_told():
                    return await in_thread(work)
            except (StorageUnavailable, InsufficientStorage, ServerOverloaded) as error:
                self._log.warning("batch waits", batch=self._claim.job.id, reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)


def _shown(counts: Counts) -> dict[str, int]:
    return {"completed": counts.completed, "failed": counts.failed}
