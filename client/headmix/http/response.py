"""Owns turning transport failures and error responses into this package's errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from headmix.errors import APIConnectionError, APIError, APITimeoutError, ErrorDetail, api_error
from headmix.types.result import REQUEST_ID_HEADER, ResponseMeta

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def meta_of(response: httpx2.Response) -> ResponseMeta:
    """Return the response's metadata."""
    return ResponseMeta.of(response.status_code, response.headers)


@contextmanager
def transport_errors() -> Iterator[None]:
    """Turn the HTTP library's failures into APIConnectionError and APITimeoutError."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise APITimeoutError(_told("timed out", error), sent=not isinstance(error, _NEVER_SENT)) from error
    except (httpx2.RequestError, httpx2.StreamError) as error:
        raise APIConnectionError(_told("failed", error), sent=not isinstance(error, _NEVER_SENT)) from error


def _told(what: str, error: httpx2.RequestError | httpx2.StreamError) -> str:
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError) and _was_refused(error):
        with suppress(RuntimeError):
            url = error.request.url
            return f"no connection to {url.scheme}://{url.netloc.decode()}: refused; is the server running?"
    if isinstance(error, httpx2.RequestError):
        # The property raises if the library did not record the request.
        with suppress(RuntimeError):
            return f"{error.request.method} {error.request.url} {what}: {reason}"
    return f"request {what}: {reason}"


def _was_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def error_of(response: httpx2.Response, body: bytes) -> APIError:
    """Return the error for a response with an error status."""
    text = body.decode("utf-8", errors="replace")
    detail = error_detail(
        body,
        fallback=f"HTTP {response.status_code} {response.reason_phrase}: {text[:200]}".rstrip(": "),
        status=response.status_code,
        request_id=response.headers.get(REQUEST_ID_HEADER),
        retry_after=parse_retry_after(response.headers.get("retry-after")),
    )
    if response.headers.get("x-should-retry") == "false":
        detail = replace(detail, should_retry=False)
    return api_error(response.status_code, detail)


def error_detail(
    body: bytes,
    *,
    fallback: str,
    status: int | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> ErrorDetail:
    """Read `{"error": {...}}`, taking only fields of the right type; `fallback` is the message if there is none."""
    error = error_object(body) or {}
    faults = error.get("faults")
    return ErrorDetail(
        message=_text(error, "message") or fallback,
        status=status,
        code=_text(error, "code"),
        param=_text(error, "param"),
        type=_text(error, "type"),
        request_id=request_id,
        retry_after=retry_after,
        faults=tuple(str(fault) for fault in faults) if isinstance(faults, list) else (),
        body=body.decode("utf-8", errors="replace"),
    )


def error_object(body: bytes) -> Mapping[str, JsonValue] | None:
    """Return the `error` member of a JSON body, or None if there is none."""
    try:
        parsed = _JSON.validate_json(body)
    except ValidationError:
        return None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else None


def _text(fields: Mapping[str, JsonValue], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def parse_retry_after(header: str | None) -> float | None:
    """Return a Retry-After header, given in seconds or as a date, as seconds from now; None if unreadable."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
