"""A worker's life: it claims one job after another until it is stopped."""

import time
from collections.abc import Callable
from contextlib import suppress

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.jobs.claims import Claim
from headmix_server.training.job.attempt import Attempt, Workshop
from headmix_server.training.pauses import Pauses
from headmix_server.training.worker_metrics import WorkerMetrics

LOOK_SECONDS = 2.0
"""How often an idle worker looks for a job; while the database is unavailable, too."""


class Worker:
    """Works in the thread that calls `run`. `on_job` is called with each job it claims, and None when that is over."""

    def __init__(
        self,
        shop: Workshop,
        metrics: WorkerMetrics,
        *,
        on_job: Callable[[Claim | None], None] = lambda _: None,
        look_seconds: float | None = None,
    ) -> None:
        self._shop = shop
        self._metrics = metrics
        self._on_job = on_job
        self._pauses = Pauses()
        # Often enough that a silent worker's claim is seen to be so as soon as its seconds are over.
        usual = min(LOOK_SECONDS, shop.options.claim_seconds / 8)
        self._look_seconds = usual if look_seconds is None else look_seconds
        self._log = get_logger("training")

    def run(self, *, until_idle: float | None = None) -> None:
        """Work until stopped, or until it has worked on no job for `until_idle` seconds."""
        control, idle_since = self._shop.control, time.monotonic()
        while not control.stopping.is_set():
            claim = None if control.busy or self._pauses.is_on else self._claim()
            if claim is not None and self._work(claim):
                idle_since = time.monotonic()
            elif until_idle is not None and time.monotonic() - idle_since > until_idle:
                return
            else:
                control.stopping.wait(self._look_seconds)

    def _claim(self) -> Claim | None:
        try:
            claim = self._shop.claims.claim(last=self._pauses.last)
        except HeadmixServerError as error:
            self._log.warning("cannot look for jobs at the moment", reason=error.message)
            return None
        with suppress(HeadmixServerError):  # a claimed job must not be forgotten for the sake of a figure
            self._metrics.queued(self._shop.jobs.counts().get(("fine_tuning", "queued"), 0))
        return claim

    def _work(self, claim: Claim) -> bool:
        """Work on a job; return false, and begin a pause, if the store or this machine does not let it."""
        job = claim.job
        self._log.info("job claimed", job=job.id, tenant=job.tenant, attempt=job.attempts)
        self._metrics.claimed()
        self._on_job(claim)
        attempt = Attempt(self._shop, claim)
        try:
            state = attempt.run()
        except (HeadmixServerError, OSError) as error:
            # The claim expires, and the job goes on from its last checkpoint, here or elsewhere.
            self._log.error("the job is left, because its rows cannot be changed", job=job.id, reason=str(error))
            state = "left"
        finally:
            self._on_job(None)
        self._metrics.ended(state)
        self._log.info("job over", job=job.id, state=state)
        if state != "left" and not attempt.is_postponed:
            self._pauses.worked(job.id)
            return True
        self._log.warning("the worker pauses", seconds=self._pauses.failed(job.id))
        return False
