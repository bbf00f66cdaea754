"""The Python client of headmix: many adapters on one base model, each request with its own.

    from headmix import Client

    with Client() as client:
        client.adapters.push("support-style", "support-style.safetensors")
        print(client.chat("Where is my parcel?", model="support-style").text)

`Client` blocks and `AsyncClient` is awaited; both have the same operations. All errors derive from `HeadmixError`.
"""

from headmix import types
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
from headmix.types import *  # noqa: F403 - everything in `types.__all__`

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AdapterTooLargeError",
    "AsyncClient",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "Client",
    "ContextLengthError",
    "DigestMismatchError",
    "EngineUnavailableError",
    "HeadmixError",
    "InsufficientStorageError",
    "InternalServerError",
    "InvalidAdapterError",
    "InvalidArgumentError",
    "InvalidResponseError",
    "NotFoundError",
    "NumericalError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerOverloadedError",
    "ServiceUnavailableError",
    "Stream",
    "StreamError",
    "TaskMismatchError",
    "__version__",  # noqa: F405 - defined by `__getattr__` below
]
__all__ += types.__all__


def __getattr__(name: str) -> str:
    """Look up `__version__` on first use: reading package metadata takes longer than importing this module."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headmix.version import version

    return version()
