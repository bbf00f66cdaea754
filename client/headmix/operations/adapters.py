"""Owns the requests that manage a tenant's adapters."""

from headmix.download import check_digest, digest_of
from headmix.request import Request, parser_of, segment
from headmix.types.adapter import (
    Adapter,
    AdapterList,
    AdapterVersion,
    AdapterVersionList,
    DeletedAdapter,
    PushedAdapter,
)
from headmix.types.result import ResponseMeta
from headmix.upload import FileSource, Progress, Source, Upload

_ADAPTERS = "/v1/adapters"


def push(
    name: str, file: FileSource, *, progress: Progress | None = None, allow_base_mismatch: bool = False
) -> Request[PushedAdapter]:
    """Upload an artifact: new bytes become a new version, made current; the current version's bytes change nothing.

    `file` is a path, bytes, or a seekable binary file, and is streamed. `progress(done, total)` is called in bytes of
    the file. `allow_base_mismatch` accepts an adapter trained on other weights of the same dimensions.
    Raises InvalidAdapterError with every fault, PayloadTooLargeError, InsufficientStorageError; OSError for the file.
    """
    fields = {"name": name} | ({"allow_base_mismatch": "true"} if allow_base_mismatch else {})
    return Request("POST", _ADAPTERS, parser_of(PushedAdapter), upload=Upload(fields, Source.of(file), progress))


def list_adapters() -> Request[tuple[Adapter, ...]]:
    """The current version of each of the tenant's adapters."""
    return Request("GET", _ADAPTERS, _adapters)


def get_adapter(name: str) -> Request[Adapter]:
    """One adapter's current version, or version N as `name@N`. Raises NotFoundError."""
    return Request("GET", _path(name), parser_of(Adapter))


def versions(name: str) -> Request[tuple[AdapterVersion, ...]]:
    """All versions of one adapter. Raises NotFoundError."""
    return Request("GET", f"{_path(name)}/versions", _versions)


def remove(name: str) -> Request[DeletedAdapter]:
    """Remove an adapter with all its versions. Requests that run keep theirs to the end. Raises NotFoundError."""
    return Request("DELETE", _path(name), parser_of(DeletedAdapter), repeatable=False)


def rollback(name: str, version: int | None = None) -> Request[Adapter]:
    """Make an earlier version current; None means the one before the current. Raises NotFoundError."""
    # Without a version the request means "one step back", which must not happen twice.
    return Request(
        "POST",
        f"{_path(name)}/rollback",
        parser_of(Adapter),
        json={"version": version},
        repeatable=version is not None,
    )


def load(name: str, version: int | None = None) -> Request[Adapter]:
    """Bring an adapter onto the device ahead of its first request; returns when it is there."""
    return Request("POST", f"{_path(name)}/load", parser_of(Adapter), json={"version": version})


def download(name: str, version: int | None = None) -> Request[bytes]:
    """An artifact's bytes, checked against the digest the server announces. Raises DigestMismatchError."""
    query = {} if version is None else {"version": version}
    return Request("GET", f"{_path(name)}/file", _verified, query=query)


def _path(name: str) -> str:
    return f"{_ADAPTERS}/{segment(name)}"


def _adapters(body: bytes, meta: ResponseMeta) -> tuple[Adapter, ...]:
    return parser_of(AdapterList)(body, meta).data


def _versions(body: bytes, meta: ResponseMeta) -> tuple[AdapterVersion, ...]:
    return parser_of(AdapterVersionList)(body, meta).data


def _verified(body: bytes, meta: ResponseMeta) -> bytes:
    check_digest(digest_of(body), meta.adapter.digest if meta.adapter else None)
    return body
