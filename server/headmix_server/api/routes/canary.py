"""/v1/adapters/{name}/canary: a second version that gets a percentage of the name's requests."""

from fastapi import APIRouter, Request

from headmix_server.api.adapter_view import view
from headmix_server.api.dependencies import AdaptersKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.naming import OwnName
from headmix_server.api.schemas.adapters import AdapterObject
from headmix_server.api.schemas.canary import CanaryRequest
from headmix_server.catalog.version import Canary

router = APIRouter(tags=["adapters"], route_class=GuardedRoute)


@router.put("/v1/adapters/{name}/canary")
async def start_canary(
    request: Request, name: OwnName, body: CanaryRequest, principal: AdaptersKey, state: State
) -> AdapterObject:
    """Send a percentage of the name's requests to a version; returns the current one.

    The version must have the task and labels of the current one. It replaces a running canary.
    """
    start, canary = state.library.catalog.canaries.start, Canary(body.version, body.percent)
    current = await state.threads.manage(principal.tenant, start, principal.tenant, name, canary, actor=principal.actor)
    record_of(request).concerns(current.called_by(principal.tenant), current.digest)
    return view(state, principal.tenant, current)


@router.delete("/v1/adapters/{name}/canary")
async def end_canary(request: Request, name: OwnName, principal: AdaptersKey, state: State) -> AdapterObject:
    """Send all requests to the current version again."""
    end = state.library.catalog.canaries.end
    current = await state.threads.manage(principal.tenant, end, principal.tenant, name, actor=principal.actor)
    record_of(request).concerns(current.called_by(principal.tenant), current.digest)
    return view(state, principal.tenant, current)


@router.post("/v1/adapters/{name}/canary/promote")
async def promote_canary(request: Request, name: OwnName, principal: AdaptersKey, state: State) -> AdapterObject:
    """Make the canary the current version; a rollback undoes it."""
    promote = state.library.catalog.canaries.promote
    current = await state.threads.manage(principal.tenant, promote, principal.tenant, name, actor=principal.actor)
    record_of(request).concerns(current.called_by(principal.tenant), current.digest)
    return view(state, principal.tenant, current)
