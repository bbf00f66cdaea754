"""The step being computed, and the report of how long its phases took."""

import time
from dataclasses import dataclass

from headmix_server.core.messages import StepReport
from headmix_server.core.runner import Batch


@dataclass(frozen=True, slots=True)
class Flight:
    """One step; `began` and `scheduled` are times of the monotonic clock, in seconds."""

    batch: Batch
    began: float
    scheduled: float

    def report(self, ran: float) -> StepReport:
        """Return the report of a step that has been committed just now; `ran` is when its computation had ended."""
        return StepReport(
            schedule_seconds=self.scheduled - self.began,
            run_seconds=ran - self.scheduled,
            commit_seconds=time.monotonic() - ran,
            batch_tokens=self.batch.num_tokens,
            distinct_adapters=self.batch.distinct_adapters,
        )
