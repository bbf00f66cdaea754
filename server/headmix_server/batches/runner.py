"""Claims batches and runs several at once, for as long as the server works."""

import asyncio
from contextlib import suppress

from sqlalchemy import Engine

from headmix_server.batches.request import KIND
from headmix_server.batches.run import BatchRun, Parts
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import writing
from headmix_server.jobs.changes import change_state
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.jobs import Jobs

AT_ONCE = 8
"""Batches that run at once: tenants take turns at these places."""

POLL_SECONDS = 1.0
CLAIM_SECONDS = 3600.0
"""A claim is never taken over while its server works: the next server takes all over when it starts."""


class BatchRunner:
    """Runs until it is cancelled; then every batch stores what it has answered and is queued again."""

    def __init__(self, parts: Parts, jobs: Jobs, *, at_once: int = AT_ONCE) -> None:
        self._parts = parts
        self._jobs = jobs
        self._at_once = at_once
        self._running: set[asyncio.Task[None]] = set()
        self._log = get_logger("batches")

    async def run(self) -> None:
        """Claim what is queued, again and again."""
        is_first = True
        try:
            while True:
                try:
                    if is_first:
                        await asyncio.to_thread(take_over, self._parts.engine, self._jobs)
                        is_first = False
                    await self._claim()
                except HeadmixServerError as error:
                    self._log.warning("no batches claimed", reason=error.message)
                except Exception:  # noqa: BLE001 - a bug must not keep all later batches from running
                    self._log.exception("no batches claimed")
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in self._running:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.gather(*self._running, return_exceptions=True))

    async def _claim(self) -> None:
        while len(self._running) < self._at_once:
            claim = await asyncio.to_thread(self._parts.claims.claim)
            if claim is None:
                return
            task = asyncio.create_task(BatchRun(self._parts, claim).run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)


def batch_claims(engine: Engine) -> Claims:
    """Return this server's side of the jobs that are batches."""
    return Claims(engine, "server", [KIND], seconds=CLAIM_SECONDS)


def take_over(engine: Engine, jobs: Jobs) -> None:
    """Queue the batches that an earlier server ran: it no longer does, since this one has the database's lease."""
    for job in jobs.in_states(KIND, ["running"], limit=10_000):
        with writing(engine) as session:
            change_state(session, job.id, "queued", now=0)
