"""Owns the requests for sharing, canaries and pinning."""

from collections.abc import Sequence

from headmix.errors import InvalidArgumentError
from headmix.http.request import Request, parser_of
from headmix.operations.address import owner, path
from headmix.types.adapter import Adapter, Sharing


def sharing(name: str) -> Request[Sharing]:
    """Show whom an adapter is shared with.

    Raises:
        NotFoundError: no such adapter.
        PermissionDeniedError: it is another tenant's.
    """
    return Request("GET", path(name, "sharing"), parser_of(Sharing), query=owner(name))


def share(name: str, tenants: Sequence[str] | None = None, *, everyone: bool = False) -> Request[Sharing]:
    """Let exactly these tenants, or everyone, read and use an adapter as `owner/name`.

    Raises:
        InvalidArgumentError: neither or both are given.
        NotFoundError: no such adapter.
        PermissionDeniedError: it is another tenant's.
    """
    if (tenants is None) == (not everyone):
        raise InvalidArgumentError("give either tenants or everyone")
    body: dict[str, object] = {"everyone": True} if tenants is None else {"tenants": list(tenants)}
    return Request("PUT", path(name, "sharing"), parser_of(Sharing), query=owner(name), json=body)


def unshare(name: str) -> Request[Sharing]:
    """Stop sharing an adapter, from the next request on."""
    return Request("DELETE", path(name, "sharing"), parser_of(Sharing), query=owner(name))


def pin(name: str) -> Request[Adapter]:
    """Load the current version onto the device and keep it there, and then each version that becomes current.

    Returns once it is loaded; if loading fails, nothing is pinned.
    """
    return Request("POST", path(name, "pin"), parser_of(Adapter), query=owner(name))


def unpin(name: str) -> Request[Adapter]:
    """Let an adapter be evicted from the device again when others need the space."""
    return Request("DELETE", path(name, "pin"), parser_of(Adapter), query=owner(name))


def canary(name: str, version: int, percent: int) -> Request[Adapter]:
    """Send a percentage of the name's requests to another version; returns the current one."""
    body: dict[str, object] = {"version": version, "percent": percent}
    return Request("PUT", path(name, "canary"), parser_of(Adapter), query=owner(name), json=body)


def end_canary(name: str) -> Request[Adapter]:
    """Send all requests to the current version again and return it."""
    return Request("DELETE", path(name, "canary"), parser_of(Adapter), query=owner(name))


def promote(name: str) -> Request[Adapter]:
    """Make the canary the current version and return it; a rollback undoes it."""
    return Request("POST", path(name, "canary", "promote"), parser_of(Adapter), query=owner(name), repeatable=False)
