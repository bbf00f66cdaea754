"""Owns the types of batches. Times are Unix seconds, None until the status is reached."""

from headmix.types.result import Part, Result

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchFault(Part):
    """What is wrong with the input file; `line` is None for the file as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchFaults(Part):
    """The faults that kept a batch from running."""

    data: tuple[BatchFault, ...] = ()


class RequestCounts(Part):
    """How many lines there are, and how many are answered without and with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchUsage(Part):
    """What the lines without an error used."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0


class Batch(Result):
    """A file of requests that is answered when there is room."""

    id: str
    endpoint: str
    status: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    model: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchFaults | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class BatchList(Part):
    """The response body around batches."""

    data: tuple[Batch, ...]
    has_more: bool = False
