"""Owns the description of one operation: what to send, and how to read the response. Sends nothing itself.

Every operation is described once as a frozen `Request`; the sync and async clients just send it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from headmix.errors import InvalidArgumentError, InvalidResponseError
from headmix.http.upload import Upload
from headmix.types.result import ResponseMeta

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Parser = Callable[[bytes, ResponseMeta], T]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One operation's request, and the parser of its response (of each event's data if the response is a stream).

    `repeatable`: the request is idempotent. `answers`: error statuses that are valid responses here.
    """

    method: str
    path: str
    parse: Parser[T]
    query: Mapping[str, str | int] = field(default_factory=dict)
    json: Mapping[str, object] | None = None
    upload: Upload | None = None
    repeatable: bool = True
    answers: frozenset[int] = frozenset()


def parser_of(model: type[M]) -> Parser[M]:
    """Return a parser of JSON bodies of the given type; it raises InvalidResponseError for any other body."""

    def parse(body: bytes, meta: ResponseMeta) -> M:
        try:
            return model.model_validate_json(body, context=meta)
        except ValidationError as error:
            excerpt = body[:200].decode("utf-8", errors="replace")
            raise InvalidResponseError(
                f"the server's answer is not a {model.__name__}: {error.error_count()} faults in {excerpt!r}"
            ) from error

    return parse


def segment(name: str) -> str:
    """Return a name as one path segment.

    Raises:
        InvalidArgumentError: the name is empty, or would address another path.
    """
    if name in {"", ".", ".."}:
        raise InvalidArgumentError(f"{name!r} is not a name")
    return quote(name, safe="")
