"""/v1/tenants and /v1/audit: every tenant and its keys, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from headmix_server.api.dependencies import AdminKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.body import shown
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.schemas.tenancy import (
    AuditList,
    KeyList,
    KeyObject,
    KeyRequest,
    NewKeyObject,
    RotateRequest,
    TenantList,
    TenantObject,
    TenantRequest,
    audit_object,
    key_object,
    new_key_object,
    tenant_object,
)
from headmix_server.api.state import ApiState
from headmix_server.core.errors import NotFound
from headmix_server.tenancy.keys.principal import Principal
from headmix_server.tenancy.tenants import TenantInfo

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


@router.get("/v1/tenants")
async def list_tenants(principal: AdminKey, state: State) -> TenantList:
    """Return every tenant."""
    return TenantList(
        data=[tenant_object(tenant) for tenant in await state.threads.manage(principal.tenant, state.tenants.list)]
    )


@router.post(
    "/v1/tenants",
    status_code=201,
    responses={200: {"model": TenantObject, "description": "The tenant exists already."}},
)
async def create_tenant(body: TenantRequest, response: Response, principal: AdminKey, state: State) -> TenantObject:
    """Create a tenant; 200 if it exists already."""

    def create() -> tuple[TenantInfo, bool]:
        return state.tenants.create(body.name, actor=principal.actor)

    tenant, made = await state.threads.manage(principal.tenant, create)
    response.status_code = 201 if made else 200
    return tenant_object(tenant)


@router.get("/v1/tenants/{tenant}")
async def get_tenant(tenant: str, principal: AdminKey, state: State) -> TenantObject:
    """Return one tenant."""
    return tenant_object(await find_tenant(state, principal, tenant))


@router.get("/v1/tenants/{tenant}/keys")
async def list_keys(tenant: str, principal: AdminKey, state: State) -> KeyList:
    """Return the tenant's keys without their texts, including revoked and expired ones, oldest first."""
    await find_tenant(state, principal, tenant)
    return KeyList(
        data=[key_object(info) for info in await state.threads.manage(principal.tenant, state.keys.list, tenant)]
    )


@router.post("/v1/tenants/{tenant}/keys", status_code=201)
async def create_key(tenant: str, body: KeyRequest, principal: AdminKey, state: State) -> NewKeyObject:
    """Create a key for an existing tenant; only this response contains its text."""
    await find_tenant(state, principal, tenant)

    def create() -> NewKeyObject:
        return new_key_object(
            state.keys.create(tenant, body.scopes, body.name, expires=body.expires, actor=principal.actor)
        )

    return await state.threads.manage(principal.tenant, create)


@router.post("/v1/tenants/{tenant}/keys/{key_id}/rotate", status_code=201)
async def rotate_key(
    tenant: str, key_id: str, principal: AdminKey, state: State, body: RotateRequest | None = None
) -> NewKeyObject:
    """Create a key with the same scopes, name and expiry; the old one ends at once or after a grace period."""
    grace_seconds = 0 if body is None else body.grace_seconds

    def rotate() -> NewKeyObject:
        new = state.keys.rotate(tenant, key_id, grace_seconds=grace_seconds, actor=principal.actor)
        if new is None:
            raise _no_key(tenant, key_id)
        return new_key_object(new)

    return await state.threads.manage(principal.tenant, rotate)


@router.delete("/v1/tenants/{tenant}/keys/{key_id}")
async def revoke_key(tenant: str, key_id: str, principal: AdminKey, state: State) -> KeyObject:
    """Revoke a key immediately."""

    def revoke() -> KeyObject:
        if not state.keys.revoke(tenant, key_id, actor=principal.actor):
            raise _no_key(tenant, key_id)
        return next(key_object(info) for info in state.keys.list(tenant) if info.key_id == key_id)

    return await state.threads.manage(principal.tenant, revoke)


@router.get("/v1/audit")
async def list_audit(
    principal: AdminKey,
    state: State,
    tenant: str | None = None,
    before: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditList:
    """Return changes, newest first, of one tenant or all; `before` is the `number` to continue from."""

    def entries() -> AuditList:
        found = state.audit.entries(tenant=tenant, before=before, limit=limit)
        return AuditList(data=[audit_object(entry) for entry in found])

    return await state.threads.manage(principal.tenant, entries)


async def find_tenant(state: ApiState, principal: Principal, name: str) -> TenantInfo:
    """Return the tenant that an administrator names.

    Raises:
        NotFound: there is no tenant of this name.
    """
    tenant = await state.threads.manage(principal.tenant, state.tenants.get, name)
    if tenant is None:
        raise NotFound(f"There is no tenant {shown(name)}.", param="tenant")
    return tenant


def _no_key(tenant: str, key_id: str) -> NotFound:
    return NotFound(f"The tenant {shown(tenant)} has no valid key {shown(key_id)}.", param="key_id")
