"""The server's part in fine-tuning jobs: it checks the data of new ones and publishes the results of trained ones.

Both go on after a restart: the jobs' rows say what remains to be done. What fails for now is tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.fine_tuning.check.checker import Checker
from headmix_server.fine_tuning.failure import fail_job
from headmix_server.fine_tuning.publication import JobMovedOnError, Publisher
from headmix_server.fine_tuning.request import KIND
from headmix_server.fine_tuning.result import JobError
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs

SECONDS = 2.0
"""How often it looks for work by itself."""

MOST_TRIES = 3
_LATER = (408, 429, 503, 507)
"""The statuses of errors that another try may not meet."""


class JobKeeper:
    """Runs until it is cancelled; `woken` is set when there may be something to do.

    Tenants take turns: each round takes the oldest job of each tenant.
    """

    def __init__(
        self,
        jobs: Jobs,
        checker: Checker,
        publisher: Publisher,
        woken: asyncio.Event,
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._jobs = jobs
        self._checker = checker
        self._publisher = publisher
        self._seconds = seconds
        self._woken = woken
        self._tries: dict[str, int] = {}
        self._log = get_logger("fine_tuning")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._woken.clear()
            if not await self.round():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await self._woken.wait()

    async def round(self) -> bool:
        """Take each tenant's oldest job one step further; return whether anything was done."""
        try:
            waiting = await asyncio.to_thread(self._jobs.in_states, KIND, ("publishing", "validating"))
        except HeadmixServerError as error:
            self._log.warning("jobs cannot be read", reason=error.message)
            return False
        done = [await self._try(job) for job in oldest_of_each(waiting)]
        return any(done)

    async def _try(self, job: Job) -> bool:
        """Work on a job and return whether it moved on."""
        publishes = job.state == "publishing"
        work: Callable[[Job], Awaitable[None]] = self._publish if publishes else self._checker.check
        try:
            await work(job)
        except HeadmixServerError as error:
            if error.status in _LATER and error.code != "rate_limit_exceeded":
                self._log.warning("a job has to wait", job=job.id, reason=error.message)
                return False
            await self._fail(job, JobError(code=error.code, message=error.message, param=error.param))
        except Exception as error:  # noqa: BLE001 - a bug, or a process that failed; the other jobs go on
            self._log.exception("a job cannot go on", job=job.id)
            return await self._tried(job, type(error).__name__)
        self._tries.pop(job.id, None)
        return True

    async def _publish(self, job: Job) -> None:
        try:
            version = await asyncio.to_thread(self._publisher.publish, job)
        except JobMovedOnError:
            return
        self._log.info("published", job=job.id, tenant=job.tenant, adapter=version.reference)

    async def _tried(self, job: Job, reason: str) -> bool:
        tries = self._tries[job.id] = self._tries.get(job.id, 0) + 1
        if tries < MOST_TRIES:
            return False
        del self._tries[job.id]
        await self._fail(job, JobError(code="internal_error", message=f"An internal error ended the job ({reason})."))
        return True

    async def _fail(self, job: Job, error: JobError) -> None:
        with suppress(HeadmixServerError):  # tried again in the next round
            await asyncio.to_thread(fail_job, self._jobs, job, error)


def oldest_of_each(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the first job of each tenant."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.tenant, job)
    return tuple(first.values())
