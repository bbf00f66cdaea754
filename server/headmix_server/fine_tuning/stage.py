"""One step of fine-tuning jobs that the server does: it takes the jobs that are in one state, tenant after tenant.

Knows whose turn it is and what to do if the step fails; what the step is, it does not know.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from headmix_server.catalog.bytes.upload import full_disk_told
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.fine_tuning.failure import fail_job
from headmix_server.fine_tuning.request import KIND
from headmix_server.fine_tuning.result import JobError
from headmix_server.jobs.job import Job, JobHead, State
from headmix_server.jobs.jobs import Jobs

SECONDS = 2.0
"""How often it looks for work by itself."""

REST_SECONDS = 15.0
"""How long a job that has to wait lets the tenant's other jobs go first."""

MOST_TRIES = 3
_LATER = (408, 429, 503, 507)
"""The statuses of errors that another try may not meet."""


class Stage:
    """Runs until it is cancelled. Each round takes the oldest job of each tenant, so no tenant can hold up another."""

    def __init__(
        self,
        jobs: Jobs,
        state: State,
        step: Callable[[Job], Awaitable[None]],
        *,
        seconds: float = SECONDS,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._state: State = state
        self._step = step
        self._seconds = seconds
        self._steady = steady
        self._tries: dict[str, int] = {}
        self._rests: dict[str, float] = {}
        self._log = get_logger("fine_tuning")

    async def run(self, woken: asyncio.Event) -> None:
        """Work until cancelled; `woken` is set when there may be something to do."""
        while True:
            woken.clear()
            if not await self.round():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await woken.wait()

    async def round(self) -> bool:
        """Take each tenant's oldest job one step further; return whether anything was done."""
        now = self._steady()
        self._rests = {job_id: end for job_id, end in self._rests.items() if end > now}
        resting = tuple(self._rests)
        try:
            turns = await asyncio.to_thread(self._jobs.oldest_of_each_tenant, KIND, self._state, without=resting)
        except HeadmixServerError as error:
            self._log.warning("jobs cannot be read", reason=error.message)
            return False
        done = [await self._turn(head) for head in turns]
        return any(done)

    async def _turn(self, head: JobHead) -> bool:
        """Work on a job and return whether it moved on."""
        try:
            # The jobs before it in the round may have taken minutes.
            job = await asyncio.to_thread(self._jobs.get, head.tenant, head.id)
            if job.state == self._state:
                with full_disk_told():
                    await self._step(job)
        except HeadmixServerError as error:
            if error.status in _LATER:
                self._log.warning("a job has to wait", job=head.id, reason=error.message)
                self._rests[head.id] = self._steady() + REST_SECONDS
                return False
            await self._fail(head, JobError(code=error.code, message=error.message, param=error.param))
        except Exception as error:  # noqa: BLE001 - a bug, or a process that failed; the other jobs go on
            self._log.exception("a job cannot go on", job=head.id)
            return await self._tried(head, type(error).__name__)
        self._tries.pop(head.id, None)
        return True

    async def _tried(self, job: JobHead, reason: str) -> bool:
        tries = self._tries[job.id] = self._tries.get(job.id, 0) + 1
        if tries < MOST_TRIES:
            return False
        del self._tries[job.id]
        await self._fail(job, JobError(code="internal_error", message=f"An internal error ended the job ({reason})."))
        return True

    async def _fail(self, job: JobHead, error: JobError) -> None:
        with suppress(HeadmixServerError):  # tried again in the next round
            await asyncio.to_thread(fail_job, self._jobs, job, error)
