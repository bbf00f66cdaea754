"""The Python client of headmix: many adapters on one base model, each request with its own.

    from headmix import Client

    with Client() as client:
        client.adapters.push("support-style", "support-style.safetensors")
        print(client.chat("Where is my parcel?", model="support-style").text)

`Client` blocks, `AsyncClient` is awaited; both have the same operations. All errors derive from `HeadmixError`.
"""

from headmix.async_client import AsyncClient
from headmix.client import Client
from headmix.errors import (
    AdapterTooLargeError,
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    DigestMismatchError,
    EngineUnavailableError,
    HeadmixError,
    InsufficientStorageError,
    InternalServerError,
    InvalidAdapterError,
    InvalidArgumentError,
    InvalidResponseError,
    NotFoundError,
    NumericalError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServerOverloadedError,
    ServiceUnavailableError,
    StreamError,
    TaskMismatchError,
)
from headmix.stream import AsyncStream, Stream
from headmix.types import (
    Adapter,
    AdapterRef,
    AdapterVersion,
    AuditEntry,
    Canary,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatParams,
    Classification,
    Completion,
    CompletionChunk,
    CompletionParams,
    DeletedAdapter,
    Embeddings,
    Health,
    Key,
    LimitChanges,
    Limits,
    Model,
    NewKey,
    PushedAdapter,
    Readiness,
    Sharing,
    Tenant,
    Usage,
    UsageLine,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Adapter",
    "AdapterRef",
    "AdapterTooLargeError",
    "AdapterVersion",
    "AsyncClient",
    "AsyncStream",
    "AuditEntry",
    "AuthenticationError",
    "BadRequestError",
    "Canary",
    "ChatChunk",
    "ChatCompletion",
    "ChatMessage",
    "ChatParams",
    "Classification",
    "Client",
    "Completion",
    "CompletionChunk",
    "CompletionParams",
    "ContextLengthError",
    "DeletedAdapter",
    "DigestMismatchError",
    "Embeddings",
    "EngineUnavailableError",
    "HeadmixError",
    "Health",
    "InsufficientStorageError",
    "InternalServerError",
    "InvalidAdapterError",
    "InvalidArgumentError",
    "InvalidResponseError",
    "Key",
    "LimitChanges",
    "Limits",
    "Model",
    "NewKey",
    "NotFoundError",
    "NumericalError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "PushedAdapter",
    "RateLimitError",
    "Readiness",
    "ServerOverloadedError",
    "ServiceUnavailableError",
    "Sharing",
    "Stream",
    "StreamError",
    "TaskMismatchError",
    "Tenant",
    "Usage",
    "UsageLine",
    "__version__",
]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when first asked for: reading package metadata costs more than importing this."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headmix.version import version

    return version()
