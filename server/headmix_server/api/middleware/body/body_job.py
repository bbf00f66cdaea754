"""Parses, validates and bounds a large JSON body in a worker, so that nothing too large comes back.

Reports the same errors as the framework does for a small body on the event loop.
"""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from headmix_server.api.middleware.body.bounds import Bounds
from headmix_server.api.schemas.body import RequestBody
from headmix_server.api.schemas.prompt_input import TooManyIds
from headmix_server.api.schemas.truncation import TruncatingBody
from headmix_server.core.errors import InvalidRequest
from headmix_server.text.truncation import Truncation
from headmix_server.text.workers.encoders import Encoders

_TOKEN_FIELDS = ("prompt", "input", "tokens")


@dataclass(frozen=True, slots=True)
class Fault:
    """The first error that the framework would report; see `error_responses.request_error`."""

    type: str
    loc: tuple[str | int, ...]
    msg: str
    ctx: Mapping[str, str]

    def as_mapping(self) -> Mapping[str, object]:
        """Return it in the form the framework uses."""
        return {"type": self.type, "loc": self.loc, "msg": self.msg, "ctx": self.ctx}


@dataclass(frozen=True, slots=True)
class ReadBody:
    """The bytes of a body of the given kind. A list of more than `context` token ids comes back as its length alone."""

    kind: type[RequestBody]
    raw: bytes
    bounds: Bounds
    context: int

    def run(self, encoders: Encoders) -> RequestBody | Fault:
        """Return the body, or its first error.

        Raises:
            InvalidRequest: it exceeds a bound, or cannot be parsed at all.
        """
        try:
            content = json.loads(self.raw)
        except json.JSONDecodeError as error:
            return Fault("json_invalid", ("body", error.pos), "JSON decode error", {"error": error.msg})
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("There was an error parsing the body") from error
        self.bounds.check_unread(content, self.kind)
        try:
            body = self.kind.model_validate(content, from_attributes=True)  # as the framework does
        except ValidationError as error:
            return _first(error)
        self.bounds.check(body)
        return _packed(body, self.context)


def _first(error: ValidationError) -> Fault:
    fault, *_ = error.errors(include_url=False, include_input=False)
    ctx = {name: value for name, value in fault.get("ctx", {}).items() if isinstance(value, str)}
    return Fault(fault["type"], ("body", *fault["loc"]), fault["msg"], ctx)


def _packed(body: RequestBody, context: int) -> RequestBody:
    """Return the body with its token ids as arrays: unpickling millions of them from a list would take long."""
    fields = {name: getattr(body, name) for name in _TOKEN_FIELDS if name in type(body).model_fields}
    cut = None
    if isinstance(body, TruncatingBody) and body.truncate_prompt_tokens is not None:
        cut = Truncation(context, body.keeps_first)
    return body.model_copy(update={name: _pack(value, context, cut) for name, value in fields.items()})


def _pack(value: object, context: int, cut: Truncation | None) -> object:
    """Return token ids as arrays; where the body has them cut, what certainly does not stay is left out already."""
    if not isinstance(value, list) or not value:
        return value
    if isinstance(value[0], int):
        ids = value if cut is None else cut.cut(value)
        return array("q", ids) if len(ids) <= context else TooManyIds(len(ids))
    return [_pack(entry, context, cut) for entry in value]
