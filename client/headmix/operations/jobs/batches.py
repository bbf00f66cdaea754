"""Owns the requests for batches: files of requests that are answered when there is room."""

from collections.abc import Mapping

from headmix.http.request import Request, parser_of, segment
from headmix.page import Page
from headmix.types.jobs.batch import Batch, BatchList
from headmix.types.result import ResponseMeta

BATCHES = "/v1/batches"
_PAGE = 100


def create(
    input_file_id: str,
    endpoint: str,
    *,
    completion_window: str = "24h",
    metadata: Mapping[str, str] | None = None,
    output_expires_after: int | None = None,
) -> Request[Batch]:
    """Have the lines of an uploaded file answered; `endpoint` is the route they call, such as `/v1/chat/completions`.

    `completion_window` is in minutes, hours or days (`30m`, `24h`, `7d`). `output_expires_after` is in seconds.

    Raises:
        NotFoundError: no such file.
        BadRequestError: the endpoint, the window or the file is not one that a batch can have.
    """
    body: dict[str, object] = {
        "input_file_id": input_file_id,
        "endpoint": endpoint,
        "completion_window": completion_window,
    }
    if metadata is not None:
        body["metadata"] = dict(metadata)
    if output_expires_after is not None:
        body["output_expires_after"] = {"anchor": "created_at", "seconds": output_expires_after}
    return Request("POST", BATCHES, parser_of(Batch), json=body, repeatable=False)


def list_batches() -> Request[Page[Batch]]:
    """List the tenant's batches, newest first."""
    return Request("GET", BATCHES, _batches, query={"limit": _PAGE})


def get_batch(batch_id: str) -> Request[Batch]:
    """Get a batch.

    Raises:
        NotFoundError: no such batch.
    """
    return Request("GET", f"{BATCHES}/{segment(batch_id)}", parser_of(Batch))


def cancel(batch_id: str) -> Request[Batch]:
    """Cancel a batch; what is answered already is kept in its files.

    Raises:
        NotFoundError: no such batch.
        BadRequestError: it has ended otherwise.
    """
    return Request("POST", f"{BATCHES}/{segment(batch_id)}/cancel", parser_of(Batch))


def _batches(body: bytes, meta: ResponseMeta) -> Page[Batch]:
    found = parser_of(BatchList)(body, meta)
    return Page(found.data, found.data[-1].id if found.has_more and found.data else None)
