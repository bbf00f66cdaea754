"""The server's part in fine-tuning jobs: it checks the data of new ones and publishes the results of trained ones.

Both go on after a restart: the jobs' rows say what remains to be done. Neither waits for the other.
"""

import asyncio
import json

from headmix_server.core.errors import RateLimitExceeded
from headmix_server.core.observability.logging import get_logger
from headmix_server.fine_tuning.check.checker import Checker
from headmix_server.fine_tuning.publication import JobMovedOnError, Publisher
from headmix_server.fine_tuning.stage import SECONDS, Stage
from headmix_server.jobs.job import Job, NewEvent
from headmix_server.jobs.jobs import Jobs


class JobKeeper:
    """Runs until it is cancelled; `woken` is set when there may be a job to check."""

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
        self._publisher = publisher
        self._woken = woken
        self._log = get_logger("fine_tuning")
        self.checks = Stage(jobs, "validating", checker.check, seconds=seconds)
        self.publications = Stage(jobs, "publishing", self._publish, seconds=seconds)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.checks.run(self._woken))
            tasks.create_task(self.publications.run(asyncio.Event()))

    async def round(self) -> bool:
        """Take each tenant's oldest jobs one step further; return whether anything was done."""
        return any(await asyncio.gather(self.checks.round(), self.publications.round()))

    async def _publish(self, job: Job) -> None:
        try:
            version = await asyncio.to_thread(self._publisher.publish, job)
        except JobMovedOnError:
            return
        except RateLimitExceeded as error:
            await asyncio.to_thread(self._say_why_it_waits, job, error)
            raise
        self._log.info("published", job=job.id, tenant=job.tenant, adapter=version.reference)

    def _say_why_it_waits(self, job: Job, error: RateLimitExceeded) -> None:
        """Record why a trained job is not published, once for each limit, also across restarts."""
        data = json.dumps({"code": "waiting_for_room", "limit": error.limit})
        message = (
            f"The adapter is trained and waits to be published: {error.message} "
            "The job then ends by itself; cancelling it discards the adapter."
        )
        self._jobs.add_event_once(job.id, NewEvent(message, level="warn", data=data))
