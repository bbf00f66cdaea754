"""/v1/adapters/{name}/sharing: who else may use an adapter."""

from fastapi import APIRouter

from headmix_server.api.dependencies import AdaptersKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.naming import OwnName
from headmix_server.api.schemas.sharing import SharingObject, SharingRequest, sharing_object
from headmix_server.api.state import ApiState
from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.tenancy.keys.principal import Principal

router = APIRouter(tags=["adapters"], route_class=GuardedRoute)


@router.get("/v1/adapters/{name}/sharing")
async def get_sharing(name: OwnName, principal: AdaptersKey, state: State) -> SharingObject:
    """Return whom the adapter is shared with."""
    return sharing_object(
        name, await state.threads.manage(principal.tenant, state.library.catalog.sharing.of, principal.tenant, name)
    )


@router.put("/v1/adapters/{name}/sharing")
async def share_adapter(name: OwnName, body: SharingRequest, principal: AdaptersKey, state: State) -> SharingObject:
    """Share the adapter with exactly these tenants, or with everyone; they read and use it as `owner/name`."""
    return await _change(state, principal, name, Shares(bool(body.everyone), tuple(body.tenants or ())))


@router.delete("/v1/adapters/{name}/sharing")
async def unshare_adapter(name: OwnName, principal: AdaptersKey, state: State) -> SharingObject:
    """Stop sharing the adapter from the next request on; running requests finish."""
    return await _change(state, principal, name, Shares())


async def _change(state: ApiState, principal: Principal, name: str, shares: Shares) -> SharingObject:
    change = state.library.catalog.sharing.change
    return sharing_object(
        name,
        await state.threads.manage(principal.tenant, change, principal.tenant, name, shares, actor=principal.actor),
    )
