"""/v1/tenants/{tenant}/adapters: any tenant's adapters, for administrators to list, unshare and delete."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from headmix_server.api.adapter_view import view, view_page
from headmix_server.api.dependencies import AdminKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.paging import AfterName, AfterVersion, Limit
from headmix_server.api.routes.tenants import find_tenant
from headmix_server.api.schemas.adapters import AdapterDeleted, AdapterList, AdapterObject
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.schemas.sharing import SharingObject, sharing_object
from headmix_server.catalog.rollout.sharing import Shares

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)

Number = Annotated[int, Path(ge=1, le=LARGEST)]
PREFIX = "/v1/tenants/{tenant}/adapters"


@router.get(PREFIX, response_model=AdapterList)
async def list_tenant_adapters(
    tenant: str, principal: AdminKey, state: State, limit: Limit = 100, after: AfterName = None
) -> Response:
    """Return the current version of each of the tenant's own adapters, by name."""
    await find_tenant(state, principal, tenant)

    def found() -> bytes:
        return view_page(state, tenant, state.library.catalog.sharing.own(tenant, after=after or "", limit=limit))

    return Response(await state.threads.manage(principal.tenant, found), media_type="application/json")


@router.get(PREFIX + "/{name}/versions", response_model=AdapterList)
async def list_tenant_versions(
    tenant: str, name: str, principal: AdminKey, state: State, limit: Limit = 100, after: AfterVersion = None
) -> Response:
    """Return the versions, newest first."""

    def found() -> bytes:
        return view_page(state, tenant, state.library.catalog.versions(tenant, name, before=after, limit=limit))

    return Response(await state.threads.manage(principal.tenant, found), media_type="application/json")


@router.delete(PREFIX + "/{name}")
async def delete_tenant_adapter(tenant: str, name: str, principal: AdminKey, state: State) -> AdapterDeleted:
    """Delete the adapter with all its versions; running and queued requests that use it finish."""
    deleted = await state.threads.manage(principal.tenant, state.library.delete, tenant, name, actor=principal.actor)
    return AdapterDeleted(name=name, versions=list(deleted.versions))


@router.delete(PREFIX + "/{name}/sharing")
async def unshare_tenant_adapter(tenant: str, name: str, principal: AdminKey, state: State) -> SharingObject:
    """Stop sharing the adapter from the next request on."""
    change = state.library.catalog.sharing.change
    return sharing_object(
        name, await state.threads.manage(principal.tenant, change, tenant, name, Shares(), actor=principal.actor)
    )


@router.delete(PREFIX + "/{name}/pin")
async def unpin_tenant_adapter(tenant: str, name: str, principal: AdminKey, state: State) -> AdapterObject:
    """Unpin the adapter: it may leave the device when others need memory."""
    version = await state.threads.manage(
        principal.tenant, state.library.catalog.pins.remove, tenant, name, actor=principal.actor
    )
    return view(state, tenant, version)


@router.post(PREFIX + "/{name}/versions/{version}/retire")
async def retire_tenant_version(
    tenant: str, name: str, version: Number, principal: AdminKey, state: State
) -> AdapterObject:
    """Retire a version, even the current one; its name is then a 404 until another version is current."""
    retire, actor = state.library.catalog.retire, principal.actor
    retired = await state.threads.manage(principal.tenant, retire, tenant, name, version, actor=actor)
    return view(state, tenant, retired)


@router.delete(PREFIX + "/{name}/versions/{version}")
async def delete_tenant_version(
    tenant: str, name: str, version: Number, principal: AdminKey, state: State
) -> AdapterDeleted:
    """Delete one version that is not current; running requests finish."""
    delete = state.library.delete_version
    gone = await state.threads.manage(principal.tenant, delete, tenant, name, version, actor=principal.actor)
    return AdapterDeleted(name=name, versions=[gone.version])
