"""Steps that fail as a whole: one fails only its own rows, but too many in a row end the engine."""

from collections.abc import Sequence as Seq

from headmix_server.core.observability.logging import get_logger
from headmix_server.core.runner import Batch, RowResult, check_results

MAX_FAILED_STEPS = 3
"""Consecutive steps that may fail as a whole before the engine gives up and must be replaced."""


class EngineBrokenError(Exception):
    """The runner fails step after step, or its thread has died; the process must be replaced."""


class FailedSteps:
    """Counts the failed steps in a row."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._log = get_logger("engine")

    def results(self, batch: Batch, outcome: Seq[RowResult] | BaseException) -> Seq[RowResult] | None:
        """Return the results of a step, or None if it failed as a whole.

        Raises:
            EngineBrokenError: too many consecutive steps have failed, or the error is not an `Exception`.
        """
        try:
            results = check_results(batch, outcome)
        except Exception as error:
            self._in_a_row += 1
            self._log.exception("step failed", rows=len(batch.rows), failed_steps=self._in_a_row)
            if self._in_a_row >= MAX_FAILED_STEPS:
                raise EngineBrokenError(f"{MAX_FAILED_STEPS} steps failed in a row, the last with: {error}") from error
            return None
        except BaseException as error:
            raise EngineBrokenError(f"the computing thread is gone: {error!r}") from error
        self._in_a_row = 0
        return results
