"""Bodies of /v1/batches, in OpenAI's shapes."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.common import Name
from headmix_server.api.schemas.metadata import Metadata
from headmix_server.api.schemas.numbers import Whole
from headmix_server.batches.batches import Batch

SHORTEST_KEPT, LONGEST_KEPT = 3600, 2_592_000


class OutputExpiry(RequestBody):
    """How long the batch's files are kept, counted from when they are made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST_KEPT, le=LONGEST_KEPT), Whole]


class BatchRequest(RequestBody):
    """A file of requests to answer when there is room."""

    drops_null: ClassVar[bool] = True

    input_file_id: Name
    endpoint: Name = Field(description="The route that every line calls.")
    completion_window: Name = Field("24h", description="Minutes, hours or days: `30m`, `24h`, `7d`.")
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class BatchFault(ResponseBody):
    """What is wrong with the input file, and in which line."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchFaults(ResponseBody):
    """The faults that kept a batch from running."""

    object: Literal["list"] = "list"
    data: list[BatchFault]


class RequestCounts(ResponseBody):
    """How many lines there are, and how many are answered without and with an error."""

    total: int
    completed: int
    failed: int


class InputDetails(ResponseBody):
    """Prompt tokens that were found in the cache."""

    cached_tokens: int


class OutputDetails(ResponseBody):
    """Part of OpenAI's shape."""

    reasoning_tokens: int = 0


class BatchUsage(ResponseBody):
    """What the lines without an error used."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(ResponseBody):
    """One batch. Times are Unix seconds, null until the status is reached."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(ResponseBody):
    """Batches, newest first; `has_more` is true if more follow."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(batch: Batch) -> BatchObject:
    """Return a batch as its tenant sees it."""
    job, request, progress = batch.job, batch.request, batch.progress
    counts, tokens = progress.counts, progress.counts.tokens
    ended = {} if batch.status in progress.reached or not job.has_ended else {batch.status: job.finished}
    times: dict[str, Any] = {**ended, **progress.reached}
    faults = [BatchFault(code=one.code, message=one.message, param=one.param, line=one.line) for one in progress.faults]
    return BatchObject(
        id=job.id,
        endpoint=request.endpoint,
        model=next(iter(progress.models)) if len(progress.models) == 1 else None,
        errors=BatchFaults(data=faults) if faults else None,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        status=batch.status,
        output_file_id=progress.output_file_id,
        error_file_id=progress.error_file_id,
        created_at=job.created,
        in_progress_at=times.get("in_progress"),
        expires_at=request.expires,
        finalizing_at=times.get("finalizing"),
        completed_at=times.get("completed"),
        failed_at=times.get("failed"),
        expired_at=times.get("expired"),
        cancelling_at=times.get("cancelling"),
        cancelled_at=times.get("cancelled"),
        request_counts=RequestCounts(total=progress.total, completed=counts.completed, failed=counts.failed),
        usage=BatchUsage(
            input_tokens=tokens.prompt,
            input_tokens_details=InputDetails(cached_tokens=tokens.cached),
            output_tokens=tokens.completion,
            output_tokens_details=OutputDetails(),
            total_tokens=tokens.prompt + tokens.completion,
        ),
        metadata=request.metadata,
    )
