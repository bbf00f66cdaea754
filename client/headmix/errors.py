"""Owns every exception the client raises. Knows nothing about HTTP libraries or how a response was received.

All errors have one root, so `except HeadmixError` catches everything this package raises on purpose:

    HeadmixError
    ├── InvalidArgumentError            an argument that cannot be sent (also a ValueError)
    ├── APIConnectionError              no response: refused, reset, broken off
    │   └── APITimeoutError             no response in time
    ├── InvalidResponseError            a response that is not in this protocol
    ├── DigestMismatchError             downloaded bytes do not match the server's digest
    ├── StreamError                     an error event in the middle of a stream, or a stream cut short
    └── APIError                        the server responded with an error
        ├── BadRequestError             400, and any 4xx without its own class
        │   ├── ContextLengthError      prompt + max_tokens do not fit
        │   ├── TaskMismatchError       generation requested from a classifier, or the reverse
        │   └── AdapterTooLargeError    422: larger than the server's memory for adapters
        ├── AuthenticationError         401
        ├── PermissionDeniedError       403
        ├── NotFoundError               404
        ├── PayloadTooLargeError        413
        ├── InvalidAdapterError         422: the artifact is faulty; `faults` lists each one
        ├── RateLimitError              429; `retry_after`
        ├── InsufficientStorageError    507
        ├── ServiceUnavailableError     503; `retry_after`
        │   ├── ServerOverloadedError   full or draining
        │   └── EngineUnavailableError  the engine is starting or restarting
        └── InternalServerError         any other 5xx
            └── NumericalError          500: what the adapter computed is NaN or infinite
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """A failure as the server described it: the fields of the `error` object and of the response.

    `should_retry` is false if the server said that retrying the same request is pointless.
    """

    message: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    type: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    faults: tuple[str, ...] = ()
    body: str = ""
    should_retry: bool = True


class HeadmixError(Exception):
    """The base class of all errors in this package."""


class InvalidArgumentError(HeadmixError, ValueError):
    """An argument that cannot be sent: a malformed base URL, key, or adapter name."""


class APIConnectionError(HeadmixError):
    """No response arrived. `sent` says whether the server may have received the request."""

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    def __str__(self) -> str:
        return self.message


class APITimeoutError(APIConnectionError):
    """No response arrived in time."""


class InvalidResponseError(HeadmixError):
    """The response is not in this protocol: a proxy's page, or another kind of server."""


class DigestMismatchError(HeadmixError):
    """The sha256 of the downloaded bytes differs from the one the server announced."""


class _ServerSaid(HeadmixError):
    """An error made from an ErrorDetail, with its fields as attributes."""

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail)
        self.detail = detail
        self.message = detail.message
        self.code = detail.code
        self.param = detail.param
        self.type = detail.type
        self.request_id = detail.request_id

    def __str__(self) -> str:
        return self.message


class StreamError(_ServerSaid):
    """A stream failed after it began. What was received so far is valid, but it is not the whole response."""


class APIError(_ServerSaid):
    """The server responded with an error: `status`, `code`, `message`, `param`, `type`, `request_id`, `body`."""

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail)
        self.status = detail.status
        self.body = detail.body
        self.retry_after = detail.retry_after


class BadRequestError(APIError):
    """The request is at fault (400); `param` names the parameter if there is one."""


class ContextLengthError(BadRequestError):
    """The prompt and the requested tokens do not fit the model's context."""


class TaskMismatchError(BadRequestError):
    """The model is for another task: generation was requested from a classifier, or the reverse."""


class AuthenticationError(APIError):
    """No API key, or not a valid one (401)."""


class PermissionDeniedError(APIError):
    """The API key lacks the scope this operation needs (403)."""


class NotFoundError(APIError):
    """No such model, adapter, version, tenant or key for this key (404)."""


class AdapterTooLargeError(BadRequestError):
    """The adapter's tensors exceed the server's memory for adapters (422)."""


class PayloadTooLargeError(APIError):
    """The upload is larger than the server accepts (413)."""


class InvalidAdapterError(APIError):
    """The uploaded artifact is faulty (422); `faults` holds one sentence per fault."""

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail)
        self.faults = detail.faults


class RateLimitError(APIError):
    """The tenant is over its rate or quota (429); `retry_after` is in seconds."""


class InsufficientStorageError(APIError):
    """The server has no room for the artifact (507)."""


class ServiceUnavailableError(APIError):
    """The server cannot serve requests now (503); `retry_after` is in seconds."""


class ServerOverloadedError(ServiceUnavailableError):
    """The server is full or draining."""


class EngineUnavailableError(ServiceUnavailableError):
    """The engine is starting, restarting or down."""


class InternalServerError(APIError):
    """The server failed (any 5xx without its own class)."""


class NumericalError(InternalServerError):
    """The result is NaN or infinite; the message names the adapter. Retrying gives the same error."""


_BY_CODE: dict[str, type[APIError]] = {
    "invalid_api_key": AuthenticationError,
    "forbidden": PermissionDeniedError,
    "model_not_found": NotFoundError,
    "not_found": NotFoundError,
    "task_mismatch": TaskMismatchError,
    "context_length_exceeded": ContextLengthError,
    "invalid_adapter": InvalidAdapterError,
    "adapter_too_large": AdapterTooLargeError,
    "payload_too_large": PayloadTooLargeError,
    "insufficient_storage": InsufficientStorageError,
    "rate_limit_exceeded": RateLimitError,
    "numerical_error": NumericalError,
    "server_overloaded": ServerOverloadedError,
    "engine_unavailable": EngineUnavailableError,
}
_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: PayloadTooLargeError,
    429: RateLimitError,
    503: ServiceUnavailableError,
    507: InsufficientStorageError,
}


def api_error(status: int, detail: ErrorDetail) -> APIError:
    """Return the error of the class for the code, or else for the status."""
    named = _BY_CODE.get(detail.code or "") or _BY_STATUS.get(status)
    if named is not None:
        return named(detail)
    if status >= 500:
        return InternalServerError(detail)
    return BadRequestError(detail) if 400 <= status < 500 else APIError(detail)
