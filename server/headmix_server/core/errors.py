"""Every error a client can receive: one class per code, with its HTTP status; as a tree:

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

The table is that of DESIGN section 6. Engine and catalog raise these errors without knowing HTTP's framework; the API
turns them into bodies in one handler.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar


class HeadmixServerError(Exception):
    """The base of all errors a client can receive. `param` names the offending parameter.

    `retry_after` is in seconds; by default it is the class's `usual_retry`, which is None if the same request would
    fail again.
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
    """Generation was requested from a classifier, or the reverse."""

    code = "task_mismatch"


class ContextLengthExceeded(InvalidRequest):
    """Prompt plus max_tokens is longer than the base's context."""

    code = "context_length_exceeded"


class InvalidApiKey(HeadmixServerError):
    """The key is missing or invalid."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class Forbidden(HeadmixServerError):
    """A valid key without the scope."""

    status = 403
    code = "forbidden"
    type = "permission_error"


class NotFound(HeadmixServerError):
    """There is no such tenant, key, job, file or upload; another tenant's is indistinguishable from none."""

    status = 404
    code = "not_found"
    type = "invalid_request_error"


class ModelNotFound(HeadmixServerError):
    """The tenant has no such adapter; another tenant's is indistinguishable from one that doesn't exist."""

    status = 404
    code = "model_not_found"
    type = "invalid_request_error"


class RequestTimeout(HeadmixServerError):
    """The client sent its request too slowly."""

    status = 408
    code = "request_timeout"
    type = "invalid_request_error"


class HeadersTooLarge(HeadmixServerError):
    """The request line and headers exceed the configured limits; sent by the connection, before there is a request."""

    status = 431
    code = "headers_too_large"
    type = "invalid_request_error"


class PayloadTooLarge(HeadmixServerError):
    """The body exceeds the configured limit."""

    status = 413
    code = "payload_too_large"
    type = "invalid_request_error"


class InvalidAdapter(HeadmixServerError):
    """The artifact was refused; `faults` lists every reason, with the tensor it concerns."""

    status = 422
    code = "invalid_adapter"
    type = "invalid_request_error"

    def __init__(self, message: str, *, faults: Sequence[str] = (), param: str | None = "file") -> None:
        super().__init__(message, param=param)
        self.faults = tuple(faults)


class AdapterTooLarge(HeadmixServerError):
    """The adapter's tensors exceed this server's memory for adapters."""

    status = 422
    code = "adapter_too_large"
    type = "invalid_request_error"


class RateLimitExceeded(HeadmixServerError):
    """The tenant is over a quota or rate, named by `limit`. Without `retry_after`, waiting does not help."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"

    def __init__(
        self, message: str, *, limit: str = "", param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.limit = limit


class InternalError(HeadmixServerError):
    """An internal error; the log has it under the request id."""


class NumericalError(HeadmixServerError):
    """The results computed for the request are NaN or infinite; the message names the adapter."""

    code = "numerical_error"


class ArtifactDamaged(HeadmixServerError):
    """The adapter's bytes are missing in the store, or differ from those that were uploaded."""

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
    usual_retry = 1  # a full queue usually moves within a second


class StorageUnavailable(HeadmixServerError):
    """The database cannot be reached, or the artifact store cannot and the adapter is not on this machine."""

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
    """Recreate an error that the engine named by code; an unknown code becomes `InternalError`."""
    return ERRORS_BY_CODE.get(code, InternalError)(message)
