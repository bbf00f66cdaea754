"""Owns what administrators do with any tenant's adapters, which they name `owner/name`. All need the scope `admin`."""

from headmix.errors import InvalidArgumentError
from headmix.http.request import Request, parser_of, segment
from headmix.operations.adapters import parse_adapters, parse_versions
from headmix.page import Page
from headmix.types.adapter import Adapter, AdapterVersion, DeletedAdapter, Sharing

_PAGE = 1000


def list_of(tenant: str) -> Request[Page[Adapter]]:
    """The current version of each adapter of a tenant's own, by name. Raises NotFoundError for the tenant."""
    return Request("GET", _adapters_of(tenant), parse_adapters, query={"limit": _PAGE})


def versions(name: str) -> Request[Page[AdapterVersion]]:
    """All versions of `owner/name`, newest first. Raises NotFoundError."""
    return Request("GET", _path(name, "versions"), parse_versions, query={"limit": _PAGE})


def remove(name: str, version: int | None = None) -> Request[DeletedAdapter]:
    """Remove `owner/name` with all its versions, or one version that is not the current one. Raises NotFoundError."""
    parts = () if version is None else ("versions", version)
    return Request("DELETE", _path(name, *parts), parser_of(DeletedAdapter), repeatable=False)


def retire(name: str, version: int) -> Request[Adapter]:
    """Keep a version of `owner/name` from being named, the current one too. Raises NotFoundError."""
    return Request("POST", _path(name, "versions", version, "retire"), parser_of(Adapter))


def unshare(name: str) -> Request[Sharing]:
    """Keep `owner/name` to its tenant, from the next request on. Raises NotFoundError."""
    return Request("DELETE", _path(name, "sharing"), parser_of(Sharing))


def unpin(name: str) -> Request[Adapter]:
    """Let `owner/name` leave the device again when others need its place. Raises NotFoundError."""
    return Request("DELETE", _path(name, "pin"), parser_of(Adapter))


def _adapters_of(tenant: str) -> str:
    return f"/v1/tenants/{segment(tenant)}/adapters"


def _path(name: str, *parts: str | int) -> str:
    owner, slash, bare = name.partition("/")
    if not slash:
        raise InvalidArgumentError(f"{name!r} is not owner/name: name the owner too")
    return "/".join((_adapters_of(owner), segment(bare), *map(str, parts)))
