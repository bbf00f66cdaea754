"""A worker's life: it claims one job after another until it is stopped."""

import time
from collections.abc import Callable

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.jobs.claims import Claim
from headmix_server.training.job.attempt import Attempt, Workshop
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
        # Often enough that a silent worker's claim is seen to be so as soon as its seconds are over.
        usual = min(LOOK_SECONDS, shop.options.claim_seconds / 8)
        self._look_seconds = usual if look_seconds is None else look_seconds
        self._log = get_logger("training")

    def run(self, *, until_idle: float | None = None) -> None:
        """Work until stopped, or until there has been no job for `until_idle` seconds."""
        control, idle_since = self._shop.control, time.monotonic()
        while not control.stopping.is_set():
            claim = None if control.busy else self._claim()
            if claim is not None:
                self._work(claim)
                idle_since = time.monotonic()
            elif until_idle is not None and time.monotonic() - idle_since > until_idle:
                return
            else:
                control.stopping.wait(self._look_seconds)

    def _claim(self) -> Claim | None:
        try:
            claim = self._shop.claims.claim()
            self._metrics.queued(self._shop.jobs.counts().get(("fine_tuning", "queued"), 0))
        except HeadmixServerError as error:
            self._log.warning("cannot look for jobs at the moment", reason=error.message)
            return None
        return claim

    def _work(self, claim: Claim) -> None:
        job = claim.job
        self._log.info("job claimed", job=job.id, tenant=job.tenant, attempt=job.attempts)
        self._metrics.claimed()
        self._on_job(claim)
        try:
            state = Attempt(self._shop, claim).run()
        except HeadmixServerError as error:
            # The claim expires, and the job goes on from its last checkpoint, here or elsewhere.
            self._log.error("the job is left, because its rows cannot be changed", job=job.id, reason=error.message)
            state = "left"
        finally:
            self._on_job(None)
        self._metrics.ended(state)
        self._log.info("job over", job=job.id, state=state)
