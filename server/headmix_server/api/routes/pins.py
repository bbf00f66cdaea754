"""/v1/adapters/{name}/pin: a name whose current version stays on the device."""

from fastapi import APIRouter, Request

from headmix_server.api.adapter_view import view
from headmix_server.api.dependencies import AdaptersKey, State
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.naming import OwnName
from headmix_server.api.schemas.adapters import AdapterObject, adapter_object
from headmix_server.core.types import Residency

router = APIRouter(tags=["adapters"], route_class=GuardedRoute)


@router.post("/v1/adapters/{name}/pin")
async def pin_adapter(request: Request, name: OwnName, principal: AdaptersKey, state: State) -> AdapterObject:
    """Load the current version onto the device and keep it there, and later current versions as well.

    Responds once it is loaded; if loading fails, nothing is pinned.
    """
    version = await until_disconnected(request, state.pinning.pin(principal.tenant, name, actor=principal.actor))
    record_of(request).concerns(version.called_by(principal.tenant), version.digest)
    return adapter_object(principal.tenant, version, Residency.DEVICE)


@router.delete("/v1/adapters/{name}/pin")
async def unpin_adapter(request: Request, name: OwnName, principal: AdaptersKey, state: State) -> AdapterObject:
    """Unpin the adapter: it may leave the device when others need memory."""
    remove = state.library.catalog.pins.remove
    version = await state.threads.manage(principal.tenant, remove, principal.tenant, name, actor=principal.actor)
    record_of(request).concerns(version.called_by(principal.tenant), version.digest)
    return view(state, principal.tenant, version)
