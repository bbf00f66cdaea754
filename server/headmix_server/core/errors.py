"""Every error a client can meet: one class a code, with its HTTP status; drawn as a tree.

    HeadmixServerError
    ├── InvalidRequest            400 invalid_request_error
    │   ├── UnsupportedParameter  400 unsupported_parameter
    │   ├── TaskMismatch          400 task_mismatch
    │   └── ContextLengthExceeded 400 context_length_exceeded
    ├── InvalidApiKey             401 invalid_api_key
    ├── Forbidden                 403 forbidden
    ├── NotFound                  404 not_found
    ├── ModelNotFound             404 model_not_found
    ├── RequestTimeout            408 request_timeout
    ├── PayloadTooLarge           413 payload_too_large
    ├── InvalidAdapter            422 invalid_adapter
    ├── AdapterTooLarge           422 adapter_too_large
    ├── RateLimitExceeded         429 rate_limit_exceeded
    ├── HeadersTooLarge           431 headers_too_large
    ├── InternalError             500 internal_error
    ├── NumericalError            500 numerical_error
    ├── ArtifactDamaged           500 artifact_damaged
    ├── EngineUnavailable         503 engine_unavailable
    ├── ServerOverloaded          503 server_overloaded
    ├── StorageUnavailable        503 storage_unavailable
    └── InsufficientStorage       507 insufficient_storage

The table is DESIGN section 6's. Engine and catalog raise or name these codes without knowing HTTP's framework; the
API turns them into bodies in one handler.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar


class HeadmixServerError(Exception):
    """Root of everything a client can be told. `param` names the offending parameter.

    `retry_after` is in seconds; who does not know better leaves it to the class, `usual_retry`, None if the same
    request fails again.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    usual_retry: ClassVar[int | None] = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = self.usual_retry if retry_after is None else retry_after


class InvalidRequest(HeadmixServerError):
    """A parameter is malformed or out of range."""

    status = 400
    code = "invalid_request_error"
    type = "invalid_request_error"


class UnsupportedParameter(InvalidRequest):
    """A parameter that would change the output and is not supported."""

    code = "unsupported_parameter"


class TaskMismatch(InvalidRequest):
    """Generation asked of a classifier, or the reverse."""

    code = "task_mismatch"


class ContextLengthExceeded(InvalidRequest):
    """Prompt plus max_tokens is longer than the base can attend to."""

    code = "context_length_exceeded"


class InvalidApiKey(HeadmixServerError):
    """No key, or one that is not valid."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class Forbidden(HeadmixServerError):
    """A valid key without the scope."""

    status = 403
    code = "forbidden"
    type = "permission_error"


class NotFound(HeadmixServerError):
    """No such tenant or key; only administrators can meet this."""

    status = 404
    code = "not_found"
    type = "invalid_request_error"


class ModelNotFound(HeadmixServerError):
    """No such adapter for this tenant; another tenant's looks the same."""

    status = 404
    code = "model_not_found"
    type = "invalid_request_error"


class RequestTimeout(HeadmixServerError):
    """The client sent its request too slowly."""

    status = 408
    code = "request_timeout"
    type = "invalid_request_error"


class HeadersTooLarge(HeadmixServerError):
    """The request line and headers exceed the configured limits; told by the connection, before there is a request."""

    status = 431
    code = "headers_too_large"
    type = "invalid_request_error"


class PayloadTooLarge(HeadmixServerError):
    """The body exceeds the configured limit."""

    status = 413
    code = "payload_too_large"
    type = "invalid_request_error"


class InvalidAdapter(HeadmixServerError):
    """The artifact was refused; `faults` lists every reason, each named with its tensor."""

    status = 422
    code = "invalid_adapter"
    type = "invalid_request_error"

    def __init__(self, message: str, *, faults: Sequence[str] = (), param: str | None = "file") -> None:
        super().__init__(message, param=param)
        self.faults = tuple(faults)


class AdapterTooLarge(HeadmixServerError):
    """An adapter whose tensors this server's memory for adapters can never hold."""

    status = 422
    code = "adapter_too_large"
    type = "invalid_request_error"


class RateLimitExceeded(HeadmixServerError):
    """The tenant is over a quota or rate; `limit` names which. Without `retry_after` waiting does not help."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"

    def __init__(
        self, message: str, *, limit: str = "", param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.limit = limit


class InternalError(HeadmixServerError):
    """An internal error; the log has the request id."""


class NumericalError(HeadmixServerError):
    """What the model computed for the request is NaN or infinite; the message names the adapter."""

    code = "numerical_error"


class ArtifactDamaged(HeadmixServerError):
    """The adapter's bytes are missing in the store, or not those that were uploaded."""

    code = "artifact_damaged"


class EngineUnavailable(HeadmixServerError):
    """The engine process is down or starting."""

    status = 503
    code = "engine_unavailable"
    usual_retry = 2  # an engine needs a few seconds to start


class ServerOverloaded(HeadmixServerError):
    """The queue is full, or the server is draining."""

    status = 503
    code = "server_overloaded"
    usual_retry = 1  # a full queue moves within one


class StorageUnavailable(HeadmixServerError):
    """The database cannot be reached, or the artifact store, and the adapter is not on this machine."""

    status = 503
    code = "storage_unavailable"
    usual_retry = 5


class InsufficientStorage(HeadmixServerError):
    """The disk is full; nothing was written."""

    status = 507
    code = "insufficient_storage"


def _descendants(root: type[HeadmixServerError]) -> list[type[HeadmixServerError]]:
    return [error for child in root.__subclasses__() for error in (child, *_descendants(child))]


ERRORS_BY_CODE: Mapping[str, type[HeadmixServerError]] = MappingProxyType(
    {error.code: error for error in _descendants(HeadmixServerError)}
)


def error_from_code(code: str, message: str) -> HeadmixServerError:
    """Rebuild an error the engine named by code; an unknown code becomes `InternalError`."""
    return ERRORS_BY_CODE.get(code, InternalError)(message)
