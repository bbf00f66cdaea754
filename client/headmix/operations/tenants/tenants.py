"""Owns administrators' requests: tenants, their keys, and the audit log. All require a key with the scope `admin`."""

from collections.abc import Sequence
from typing import Unpack

from headmix.http.request import Request, parser_of, segment
from headmix.types.result import ResponseMeta
from headmix.types.tenants.limits import LimitChanges, Limits
from headmix.types.tenants.tenant import AuditEntry, AuditList, Key, KeyList, NewKey, Tenant, TenantList

_TENANTS = "/v1/tenants"


def list_tenants() -> Request[tuple[Tenant, ...]]:
    """List all tenants by name."""
    return Request("GET", _TENANTS, _tenants)


def get_tenant(name: str) -> Request[Tenant]:
    """Get a tenant.

    Raises:
        NotFoundError: no such tenant.
    """
    return Request("GET", f"{_TENANTS}/{segment(name)}", parser_of(Tenant))


def create_tenant(name: str) -> Request[Tenant]:
    """Create a tenant; an existing one is returned unchanged."""
    return Request("POST", _TENANTS, parser_of(Tenant), json={"name": name})


def get_limits(name: str) -> Request[Limits]:
    """Get a tenant's limits.

    Raises:
        NotFoundError: no such tenant.
    """
    return Request("GET", _limits_of(name), parser_of(Limits))


def set_limits(name: str, **changes: Unpack[LimitChanges]) -> Request[Limits]:
    """Set some of a tenant's limits, from its next request on: 0 means no limit, None the server's default.

    Raises:
        NotFoundError: no such tenant.
    """
    return Request("PATCH", _limits_of(name), parser_of(Limits), json=dict(changes))


def list_keys(tenant: str) -> Request[tuple[Key, ...]]:
    """List a tenant's keys, including revoked and expired ones, oldest first.

    Raises:
        NotFoundError: no such tenant.
    """
    return Request("GET", _keys_of(tenant), _keys)


def create_key(
    tenant: str, scopes: Sequence[str], *, name: str | None = None, expires: int | None = None
) -> Request[NewKey]:
    """Create a key for a tenant, valid until `expires` (Unix seconds) or until it is revoked.

    `scopes` are some of `inference`, `adapters`, `metrics`, `admin`.

    Raises:
        NotFoundError: no such tenant.
    """
    body = {"scopes": list(scopes), "name": name, "expires": expires}
    return Request("POST", _keys_of(tenant), parser_of(NewKey), json=body, repeatable=False)


def revoke_key(tenant: str, key_id: str) -> Request[Key]:
    """Revoke a key at once.

    Raises:
        NotFoundError: no such key, or it is no longer valid.
    """
    return Request("DELETE", f"{_keys_of(tenant)}/{segment(key_id)}", parser_of(Key), repeatable=False)


def rotate_key(tenant: str, key_id: str, *, grace_seconds: int = 0) -> Request[NewKey]:
    """Replace a key with a new one of the same scopes, name and expiry, after a grace period.

    Raises:
        NotFoundError: no such key, or it is no longer valid.
    """
    path = f"{_keys_of(tenant)}/{segment(key_id)}/rotate"
    return Request("POST", path, parser_of(NewKey), json={"grace_seconds": grace_seconds}, repeatable=False)


def read_audit(
    *, tenant: str | None = None, before: int | None = None, limit: int = 100
) -> Request[tuple[AuditEntry, ...]]:
    """List changes to tenants and keys, newest first; `before` is the `number` to continue from."""
    query: dict[str, str | int] = {"limit": limit}
    query |= {} if tenant is None else {"tenant": tenant}
    query |= {} if before is None else {"before": before}
    return Request("GET", "/v1/audit", _entries, query=query)


def _limits_of(tenant: str) -> str:
    return f"{_TENANTS}/{segment(tenant)}/limits"


def _keys_of(tenant: str) -> str:
    return f"{_TENANTS}/{segment(tenant)}/keys"


def _tenants(body: bytes, meta: ResponseMeta) -> tuple[Tenant, ...]:
    return parser_of(TenantList)(body, meta).data


def _keys(body: bytes, meta: ResponseMeta) -> tuple[Key, ...]:
    return parser_of(KeyList)(body, meta).data


def _entries(body: bytes, meta: ResponseMeta) -> tuple[AuditEntry, ...]:
    return parser_of(AuditList)(body, meta).data
