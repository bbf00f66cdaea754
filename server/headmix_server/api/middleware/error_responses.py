"""Turns errors into responses: the only place that builds a body `{"error": {...}}`.

Every error a client sees passes through here, whatever raised it: our own classes, pydantic, the router (404, 405) or a
bug. The text of a bug's exception goes to the log, never to the client.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.schemas.body import UNSUPPORTED, encodable
from headmix_server.core.errors import (
    HeadmixServerError,
    InternalError,
    InvalidAdapter,
    InvalidApiKey,
    InvalidRequest,
    NumericalError,
    RateLimitExceeded,
    UnsupportedParameter,
)
from headmix_server.core.observability.logging import get_logger

INTERNAL_MESSAGE = "Internal server error. Quote the request id when you report it."
CLIENT_GONE_STATUS = 499
ROUTING_CODES: Mapping[int, str] = {404: "not_found", 405: "method_not_allowed"}
"""Codes for requests that no route serves: an unknown path, or a method that a path does not support."""


class ClientGone(HTTPException):
    """The client closed the connection, so no response is sent.

    An HTTPException because the framework turns any other exception raised while reading a body into a 400.
    """

    def __init__(self) -> None:
        super().__init__(CLIENT_GONE_STATUS)


class BodyRefused(HTTPException):
    """The rest of a body is refused, for the reason in `error`.

    An HTTPException because the framework turns any other exception raised while reading a body into a 400.
    """

    def __init__(self, error: HeadmixServerError) -> None:
        super().__init__(error.status, error.message)
        self.error = error


def error_body(error: HeadmixServerError) -> dict[str, dict[str, Any]]:
    """Return the JSON body of an error. An internal error's own message goes only to the log: see `record_error`."""
    body: dict[str, Any] = {
        "message": INTERNAL_MESSAGE if error.code == InternalError.code else encodable(error.message),
        "type": error.type,
        "param": error.param if error.param is None else encodable(error.param),
        "code": error.code,
    }
    if isinstance(error, InvalidAdapter):
        body["faults"] = [encodable(fault) for fault in error.faults]
    return {"error": body}


def error_response(error: HeadmixServerError) -> JSONResponse:
    """Return the complete response for an error."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, RateLimitExceeded | NumericalError):
        headers["x-should-retry"] = "false"  # OpenAI's clients would retry otherwise
    if isinstance(error, InvalidApiKey):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)


def record_error(record: RequestRecord, error: HeadmixServerError) -> None:
    """Record that the request ended in this error; an internal error's message goes to the log."""
    record.outcome = error.code
    record.refused_param = error.param
    if isinstance(error, RateLimitExceeded):
        record.limit = error.limit
    if error.code == InternalError.code:
        get_logger("api").error("internal error", request_id=record.request_id, reason=error.message)


def install_handlers(app: FastAPI) -> None:
    """Have the application answer all known errors in this shape; `request_log` catches unexpected exceptions."""
    app.add_exception_handler(HeadmixServerError, _known)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientGone, _gone)


async def _known(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HeadmixServerError):
        raise error
    record_error(record_of(request), error)
    return error_response(error)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    return await _known(request, request_error(error.errors()))


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error, BodyRefused):
        return await _known(request, error.error)
    code = ROUTING_CODES.get(error.status_code)
    if code is None:
        return await _known(request, InvalidRequest(str(error.detail)))  # the framework could not read the body
    record_of(request).outcome = code
    message = f"{request.method} {request.url.path} is not a route of this server."
    body = {"message": message, "type": InvalidRequest.type, "param": None, "code": code}
    return JSONResponse({"error": body}, error.status_code, error.headers)


async def _gone(request: Request, _: Exception) -> JSONResponse:
    record_of(request).outcome = "aborted"
    return JSONResponse(None, CLIENT_GONE_STATUS)


def request_error(faults: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """Return the error for a body that pydantic rejected: the first one, since the others may only follow from it."""
    fault = faults[0]
    param = _param(fault["loc"])
    if fault["type"] == UNSUPPORTED:
        path = ".".join(filter(None, (param, fault["ctx"]["name"])))
        return UnsupportedParameter(fault["ctx"]["message"], param=path)
    if fault["type"] == "json_invalid":
        return InvalidRequest(f"The body is not valid JSON: {fault['ctx']['error']}.")
    if fault["type"] == "model_attributes_type" and not param:
        return InvalidRequest("The body must be a JSON object, sent with the content type application/json.")
    message = str(fault["msg"]).removeprefix("Value error, ")
    return InvalidRequest(f"{param}: {message}." if param else f"{message}.", param=param or None)


def _param(loc: Sequence[str | int]) -> str:
    """Return an error's location in the client's terms: dotted, without FastAPI's prefix and the members of a union."""
    return ".".join(str(part) for part in loc[1:] if not (isinstance(part, str) and part.startswith("<")))
