"""Observes for the metrics what the database says of jobs: those that have not ended, their lines, what they trained.

Workers may run elsewhere, so the server learns from the database what they did, and not from them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from headmix_server.batches.batches import Batches
from headmix_server.core.observability.metrics import Metrics
from headmix_server.jobs.jobs import Jobs


@dataclass(frozen=True, slots=True)
class JobMetrics:
    """`newly_trained` returns the tokens that all jobs have read since it was last called."""

    metrics: Metrics
    jobs: Jobs
    batches: Batches
    newly_trained: Callable[[], int]

    def observe(self) -> None:
        """Update the metrics; raises as `reading`."""
        self.metrics.jobs_counted(self.jobs.counts())
        self.metrics.batch_lines_left(self.batches.unanswered())
        self.metrics.tokens_trained(self.newly_trained())
