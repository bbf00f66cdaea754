"""/v1/tenants/{tenant}/limits: what a tenant may use, for administrators."""

from fastapi import APIRouter

from headmix_server.api.dependencies import AdminKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.routes.tenants import find_tenant
from headmix_server.api.schemas.limits import LimitChanges, LimitsObject, limits_object

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


@router.get("/v1/tenants/{tenant}/limits")
async def get_limits(tenant: str, principal: AdminKey, state: State) -> LimitsObject:
    """Return the limits set for the tenant, and its effective limits."""
    await find_tenant(state, principal, tenant)
    return await state.threads.manage(principal.tenant, limits_object, state.limits, tenant)


@router.patch("/v1/tenants/{tenant}/limits")
async def change_limits(tenant: str, body: LimitChanges, principal: AdminKey, state: State) -> LimitsObject:
    """Set limits; they apply from the next request on."""
    await find_tenant(state, principal, tenant)

    def change() -> LimitsObject:
        state.limits.change(tenant, body.model_dump(exclude_unset=True), actor=principal.actor)
        return limits_object(state.limits, tenant)

    return await state.threads.manage(principal.tenant, change)
