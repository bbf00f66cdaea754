"""What a runner owes for a batch; the engine takes its results through here."""

from collections.abc import Sequence as Seq
from typing import assert_never

from headmix_server.core.runner import Batch, BatchRow, Pooled, RowFailed, RowResult, Sampled, Scored
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams


def accept(batch: Batch, outcome: Seq[RowResult] | BaseException) -> Seq[RowResult]:
    """Return a step's results, one for every row, in order, and of the right kind where one is due.

    Raises:
        RuntimeError: the runner broke its contract.
        BaseException: what the runner raised.
    """
    if isinstance(outcome, BaseException):
        raise outcome
    results = outcome
    if [row.sequence_id for row in batch.rows] != [result.sequence_id for result in results]:
        raise RuntimeError("the runner's results are not those of the batch's rows")
    for row, result in zip(batch.rows, results, strict=True):
        if not isinstance(result.result, (RowFailed, _due(row) if row.samples else type(None))):
            raise RuntimeError(f"the runner answered a row with {type(result.result).__name__}")  # noqa: TRY004 - no argument's type
    return results


def _due(row: BatchRow) -> type[Sampled] | type[Pooled] | type[Scored]:
    match row.params:
        case SamplingParams():
            return Sampled
        case ClassificationParams():
            return Scored
        case EmbeddingParams():
            return Pooled
        case _:
            assert_never(row.params)
