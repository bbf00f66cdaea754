"""Owns how administrators manage any tenant's adapters, named `owner/name`. All of it requires the scope `admin`."""

from headmix.errors import InvalidArgumentError
from headmix.http.request import Request, parser_of, segment
from headmix.operations.adapters import parse_adapters, parse_versions
from headmix.page import Page
from headmix.types.adapter import Adapter, AdapterVersion, DeletedAdapter, Sharing

_PAGE = 1000


def list_of(tenant: str) -> Request[Page[Adapter]]:
    """List the current version of each of a tenant's own adapters, by name.

    Raises:
        NotFoundError: no such tenant.
    """
    return Request("GET", _adapters_of(tenant), parse_adapters, query={"limit": _PAGE})


def versions(name: str) -> Request[Page[AdapterVersion]]:
    """List all versions of `owner/name`, newest first.

    Raises:
        NotFoundError: no such adapter.
    """
    return Request("GET", _path(name, "versions"), parse_versions, query={"limit": _PAGE})


def remove(name: str, version: int | None = None) -> Request[DeletedAdapter]:
    """Remove `owner/name` with all its versions, or one version that is not the current one.

    Raises:
        NotFoundError: no such adapter or version.
    """
    parts = () if version is None else ("versions", version)
    return Request("DELETE", _path(name, *parts), parser_of(DeletedAdapter), repeatable=False)


def retire(name: str, version: int) -> Request[Adapter]:
    """Retire a version of `owner/name`, even the current one: it can no longer be named.

    Raises:
        NotFoundError: no such adapter or version.
    """
    return Request("POST", _path(name, "versions", version, "retire"), parser_of(Adapter))


def unshare(name: str) -> Request[Sharing]:
    """Stop sharing `owner/name`, from the next request on.

    Raises:
        NotFoundError: no such adapter.
    """
    return Request("DELETE", _path(name, "sharing"), parser_of(Sharing))


def unpin(name: str) -> Request[Adapter]:
    """Let `owner/name` be evicted from the device again when others need the space.

    Raises:
        NotFoundError: no such adapter.
    """
    return Request("DELETE", _path(name, "pin"), parser_of(Adapter))


def _adapters_of(tenant: str) -> str:
    return f"/v1/tenants/{segment(tenant)}/adapters"


def _path(name: str, *parts: str | int) -> str:
    owner, slash, bare = name.partition("/")
    if not slash:
        raise InvalidArgumentError(f"{name!r} is not owner/name: name the owner too")
    return "/".join((_adapters_of(owner), segment(bare), *map(str, parts)))
