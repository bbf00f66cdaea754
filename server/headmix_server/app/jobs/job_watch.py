"""Looks after fine-tuning jobs that no worker looks after: settles those whose worker is gone, and tells the tenants of
those that wait why they do.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.settings.values import Train
from headmix_server.jobs.claims import WAITING, Claims
from headmix_server.jobs.job import NewEvent
from headmix_server.jobs.jobs import Jobs

LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 60
"""How long a job waits before its events say why."""

_WAITING = "waiting_for_worker"
_REASONS: Mapping[Train, str] = {
    "off": "no worker has taken it yet. This server does not train (--train off): it needs `headmix train-worker`.",
    "here": "no worker has taken it yet.",
    "idle": "no worker has taken it yet. This server trains while no client waits for a request (--train idle); "
    "`headmix train-worker` on another machine trains at any time.",
}


class JobWatch:
    """Runs until cancelled. `observe` is called at each look, for the metrics."""

    def __init__(
        self,
        jobs: Jobs,
        claims: Claims,
        train: Train,
        *,
        observe: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._claims = claims
        self._train = train
        self._observe = observe
        self._clock = clock
        self._told: set[str] = set()
        self._log = get_logger("training")

    async def run(self, seconds: float = LOOK_SECONDS) -> None:
        """Look regularly; while the database is unavailable, the next look is as good."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look once."""
        try:
            for job in self._claims.settle_abandoned():
                self._log.warning("a job's worker is gone", job=job.id)
            self._observe()
            self._tell()
        except HeadmixServerError as error:
            self._log.warning("jobs cannot be read", reason=error.message)
        except Exception:  # noqa: BLE001 - a bug, which must not end the looking
            self._log.exception("jobs cannot be looked after")

    def _tell(self) -> None:
        queued = self._jobs.in_states("fine_tuning", ["queued"])
        running = len(self._jobs.in_states("fine_tuning", ["running"]))
        self._told &= {job.id for job in queued}
        for job in queued:
            if job.id not in self._told and self._clock() - job.created >= PATIENCE_SECONDS:
                self._told.add(job.id)
                event = NewEvent(_message(self._train, running), data=_DATA, level="warn")
                self._jobs.add_event_once(job.id, event, unless=(WAITING,))  # a worker's reason is better


_DATA = f'{{"code":"{_WAITING}"}}'


def _message(train: Train, running: int) -> str:
    if running:
        return f"The job waits: all workers are busy ({running} jobs are running)."
    return f"The job waits: {_REASONS[train]}"
