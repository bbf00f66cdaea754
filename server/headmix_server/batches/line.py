"""One line of a batch's input file, and the answer to it."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import msgspec

from headmix_server.core.types import Frozen

ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/classify",
    "/v1/responses",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/score",
)
"""What a batch may call."""


class InputLine(Frozen, frozen=True, forbid_unknown_fields=True):
    """A line as its client wrote it. `body` is the JSON of the request's body, unread."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Line:
    """A line to answer: its number in the file, from 1, and what it asks."""

    number: int
    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a line as HTTP would have sent it; `retry_after` in seconds, None if a retry is of no use."""

    status: int
    request_id: str
    body: bytes
    retry_after: float | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the line goes to the output file, not to the error file."""
        return self.status < 400


Rest = Callable[[], AbstractContextManager[None]]
"""Encloses the time in which a line waits and nothing is computed for it, so that it can be dropped at no cost."""

Unanswered = Literal["batch_expired", "batch_cancelled"]

UNANSWERED: dict[Unanswered, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
}


def answered_line(batch_id: str, line: Line, answer: Answer) -> bytes:
    """Return a line of the output or error file, without its end."""
    body = answer.body if b"\n" not in answer.body else msgspec.json.encode(msgspec.json.decode(answer.body))
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": msgspec.Raw(body or b"null")}
    return _written(batch_id, line, response, None)


def unanswered_line(batch_id: str, line: Line, code: Unanswered) -> bytes:
    """Return the error file's line for a request that was not executed."""
    return _written(batch_id, line, None, {"code": code, "message": UNANSWERED[code]})


def _written(batch_id: str, line: Line, response: dict[str, object] | None, error: dict[str, str] | None) -> bytes:
    number = hashlib.sha256(f"{batch_id}/{line.number}".encode()).hexdigest()[:24]
    return msgspec.json.encode(
        {"id": f"batch_req_{number}", "custom_id": line.custom_id, "response": response, "error": error}
    )
