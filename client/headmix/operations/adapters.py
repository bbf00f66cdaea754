"""Owns the requests that manage a tenant's adapters. Adapters that others share with it are named `owner/name`."""

from headmix.http.download import check_digest, digest_of
from headmix.http.request import Request, parser_of
from headmix.http.upload import FileSource, Progress, Source, Upload
from headmix.operations.address import ADAPTERS, owner, path
from headmix.page import Page
from headmix.types.adapter import (
    Adapter,
    AdapterList,
    AdapterVersion,
    AdapterVersionList,
    DeletedAdapter,
    PushedAdapter,
)
from headmix.types.result import ResponseMeta

_PAGE = 1000


def push(
    name: str,
    file: FileSource,
    *,
    progress: Progress | None = None,
    allow_base_mismatch: bool = False,
    current: bool = True,
) -> Request[PushedAdapter]:
    """Upload an artifact: new bytes become a new, current version; the current version's bytes change nothing.

    `file` is a path, bytes, or a seekable binary file, and is streamed. `progress(done, total)` counts the file's
    bytes. `allow_base_mismatch` accepts an adapter trained on other weights of the same dimensions. Without
    `current` the new version is added next to the current one, to be tried as a canary.

    Raises:
        InvalidAdapterError: the artifact is refused, with every fault.
        PayloadTooLargeError: the file is larger than the server accepts.
        InsufficientStorageError: the server has no room for it.
        OSError: the file cannot be read.
    """
    fields = {"name": name} | ({"allow_base_mismatch": "true"} if allow_base_mismatch else {})
    fields |= {} if current else {"current": "false"}
    return Request("POST", ADAPTERS, parser_of(PushedAdapter), upload=Upload(fields, Source.of(file), progress))


def list_adapters() -> Request[Page[Adapter]]:
    """List the current version of each of the tenant's adapters by name, then of those that others share with it."""
    return Request("GET", ADAPTERS, parse_adapters, query={"limit": _PAGE})


def get_adapter(name: str) -> Request[Adapter]:
    """Get an adapter's current version, or version N as `name@N`.

    Raises:
        NotFoundError: no such adapter or version.
    """
    return Request("GET", path(name), parser_of(Adapter), query=owner(name))


def versions(name: str) -> Request[Page[AdapterVersion]]:
    """List all versions of an adapter, newest first.

    Raises:
        NotFoundError: no such adapter.
    """
    return Request("GET", path(name, "versions"), parse_versions, query={"limit": _PAGE, **owner(name)})


def remove(name: str, version: int | None = None) -> Request[DeletedAdapter]:
    """Remove an adapter with all its versions, or one version that is not the current one.

    Running and waiting requests keep the version they started with.

    Raises:
        NotFoundError: no such adapter or version.
    """
    parts = () if version is None else ("versions", version)
    return Request("DELETE", path(name, *parts), parser_of(DeletedAdapter), query=owner(name), repeatable=False)


def retire(name: str, version: int) -> Request[Adapter]:
    """Retire a version that is not the current one: it can no longer be named; its bytes stay.

    Raises:
        NotFoundError: no such adapter or version.
    """
    return Request("POST", path(name, "versions", version, "retire"), parser_of(Adapter), query=owner(name))


def restore(name: str, version: int) -> Request[Adapter]:
    """Restore a retired version, so that it can be named again.

    Raises:
        NotFoundError: no such adapter or version.
    """
    return Request("POST", path(name, "versions", version, "restore"), parser_of(Adapter), query=owner(name))


def rollback(name: str, version: int | None = None) -> Request[Adapter]:
    """Make an earlier version current; None means the previous one.

    Raises:
        NotFoundError: no such adapter or version.
    """
    # Without a version the request means "one step back" and must not be repeated.
    return Request(
        "POST",
        path(name, "rollback"),
        parser_of(Adapter),
        query=owner(name),
        json={"version": version},
        repeatable=version is not None,
    )


def load(name: str, version: int | None = None) -> Request[Adapter]:
    """Load an adapter onto the device before its first request; returns once it is loaded."""
    return Request("POST", path(name, "load"), parser_of(Adapter), query=owner(name), json={"version": version})


def download(name: str, version: int | None = None) -> Request[bytes]:
    """Download an artifact's bytes, checked against the digest the server announces.

    Raises:
        DigestMismatchError: the bytes differ from the digest.
    """
    query = owner(name) if version is None else {"version": version, **owner(name)}
    return Request("GET", path(name, "file"), _verified, query=query)


def parse_adapters(body: bytes, meta: ResponseMeta) -> Page[Adapter]:
    """Parse one page of a list of adapters."""
    found = parser_of(AdapterList)(body, meta)
    return Page(found.data, found.data[-1].name if found.has_more and found.data else None)


def parse_versions(body: bytes, meta: ResponseMeta) -> Page[AdapterVersion]:
    """Parse one page of an adapter's history."""
    found = parser_of(AdapterVersionList)(body, meta)
    return Page(found.data, found.data[-1].version if found.has_more and found.data else None)


def _verified(body: bytes, meta: ResponseMeta) -> bytes:
    check_digest(digest_of(body), meta.adapter.digest if meta.adapter else None)
    return body
