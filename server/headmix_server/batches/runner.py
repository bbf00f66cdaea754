"""Claims batches and runs several at once, for as long as the server works. Tenants take turns at the places."""

import asyncio
import time
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Engine, select

from headmix_server.batches.held_models import HeldModels
from headmix_server.batches.request import KIND, read_request
from headmix_server.batches.run import BatchRun, Parts
from headmix_server.batches.threads import in_thread
from headmix_server.batches.turns import Place, who_yields
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import reading, writing
from headmix_server.jobs.changes import change_state
from headmix_server.jobs.claims import Claim, Claims
from headmix_server.jobs.jobs import Jobs
from headmix_server.jobs.tables import JobRow

AT_ONCE = 8
"""Batches that run at once. As many more may end at once that are cancelled, or whose window ends, in the queue."""

POLL_SECONDS = 1.0
OVERDUE_SECONDS = 5.0
"""How often the queue is searched for batches that are to end, while all places are taken."""
CLAIM_SECONDS = 3600.0
"""A claim is never taken over while its server works: the next server takes all over when it starts."""


class BatchRunner:
    """Runs until it is cancelled; then every batch stores what it has answered and is queued again."""

    def __init__(self, parts: Parts, jobs: Jobs, *, at_once: int = AT_ONCE) -> None:
        self._parts = parts
        self._jobs = jobs
        self._at_once = at_once
        self._running: dict[asyncio.Task[None], _Running] = {}
        self._ending: dict[asyncio.Task[None], _Running] = {}
        self._held: dict[str, HeldModels] = {}  # of batches that wait for their next turn
        self._searched = float("-inf")
        self._log = get_logger("batches")

    async def run(self) -> None:
        """Claim what is queued, again and again."""
        is_first = True
        try:
            while True:
                try:
                    if is_first:
                        await in_thread(lambda: take_over(self._parts.engine, self._jobs))
                        is_first = False
                    await self._claim()
                    if len(self._running) >= self._at_once:
                        await self._end_overdue()
                        await self._take_turns()
                except HeadmixServerError as error:
                    self._log.warning("no batches claimed", reason=error.message)
                except Exception:  # noqa: BLE001 - a bug must not keep all later batches from running
                    self._log.exception("no batches claimed")
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        tasks = [*self._running, *self._ending]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.shield(asyncio.gather(*tasks, return_exceptions=True))
        for held in self._held.values():
            held.release()

    async def _claim(self) -> None:
        while len(self._running) < self._at_once:
            claim = await in_thread(self._parts.claims.claim)
            if claim is None:
                return
            self._start(claim, self._running)

    async def _end_overdue(self) -> None:
        """Claim what is to end though no place is free, since it answers no lines any more."""
        if time.monotonic() - self._searched < OVERDUE_SECONDS:
            return
        self._searched = time.monotonic()
        room = self._at_once - len(self._ending)
        for batch_id in await in_thread(partial(overdue, self._parts.engine, now=self._parts.clock(), limit=room)):
            claim = await in_thread(partial(self._parts.claims.claim_this, batch_id))
            if claim is not None:
                self._start(claim, self._ending)

    async def _take_turns(self) -> None:
        """Ask for the place of a batch if another tenant's waits for one: for one at a time, unless it takes long."""
        runs = list(self._running.values())
        if any(one.run.turn.is_ending and not one.run.turn.is_over for one in runs):
            return
        waiting = await in_thread(self._parts.claims.waiting)
        if waiting is None:
            return
        tenant, had = waiting
        now = time.monotonic()
        staying = {one.batch: one for one in runs if not one.run.turn.is_ending}
        places = [Place(one.batch, one.tenant, now - one.since) for one in staying.values()]
        place = who_yields(places, had, tenant)
        if place is not None:
            staying[place.batch].run.leave()

    def _start(self, claim: Claim, among: "dict[asyncio.Task[None], _Running]") -> None:
        job = claim.job
        held = self._held.pop(job.id, None) or HeldModels(self._parts.library, job.tenant, job.id)
        run = BatchRun(self._parts, claim, held)
        task = asyncio.create_task(run.run())
        among[task] = _Running(job.id, job.tenant, run, time.monotonic())
        task.add_done_callback(partial(self._left, among, held))

    def _left(self, among: "dict[asyncio.Task[None], _Running]", held: HeldModels, task: asyncio.Task[None]) -> None:
        one = among.pop(task)
        if one.run.has_yielded:
            self._held[one.batch] = held
        else:
            held.release()


class _Running(NamedTuple):
    batch: str
    tenant: str
    run: BatchRun
    since: float


def batch_claims(engine: Engine) -> Claims:
    """Return this server's side of the jobs that are batches."""
    return Claims(engine, "server", [KIND], seconds=CLAIM_SECONDS)


def take_over(engine: Engine, jobs: Jobs) -> None:
    """Queue the batches that an earlier server ran: it no longer does, since this one has the database's lease."""
    for job in jobs.in_states(KIND, ["running"], limit=10_000):
        with writing(engine) as session:
            change_state(session, job.id, "queued", now=0)


def overdue(engine: Engine, *, now: float, limit: int) -> tuple[str, ...]:
    """Return up to `limit` queued batches that are to end: cancelled, or not finished within their window."""
    queued = select(JobRow.id, JobRow.request, JobRow.wanted).where(JobRow.kind == KIND, JobRow.state == "queued")
    with reading(engine) as session:
        rows = session.execute(queued.order_by(JobRow.created, JobRow.id))
        found = (id_ for id_, text, wanted in rows if wanted == "cancel" or read_request(text).expires <= now)
        return tuple(islice(found, limit))
