"""/v1/adapters/{name}/versions/{version}: operations on one version that is not the current one."""

from typing import Annotated

from fastapi import APIRouter, Path

from headmix_server.api.adapter_view import view
from headmix_server.api.dependencies import AdaptersKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.naming import OwnName
from headmix_server.api.schemas.adapters import AdapterDeleted, AdapterObject
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.state import ApiState
from headmix_server.catalog.version import VersionState
from headmix_server.tenancy.keys.principal import Principal

router = APIRouter(tags=["adapters"], route_class=GuardedRoute)

Number = Annotated[int, Path(ge=1, le=LARGEST)]


@router.post("/v1/adapters/{name}/versions/{version}/retire")
async def retire_version(name: OwnName, version: Number, principal: AdaptersKey, state: State) -> AdapterObject:
    """Retire a version: it cannot be named, but its bytes stay; running requests finish."""
    return await _set_state(state, principal, name, version, VersionState.RETIRED)


@router.post("/v1/adapters/{name}/versions/{version}/restore")
async def restore_version(name: OwnName, version: Number, principal: AdaptersKey, state: State) -> AdapterObject:
    """Restore a retired version."""
    return await _set_state(state, principal, name, version, VersionState.READY)


@router.delete("/v1/adapters/{name}/versions/{version}")
async def delete_version(name: OwnName, version: Number, principal: AdaptersKey, state: State) -> AdapterDeleted:
    """Delete one version; running and queued requests that use it finish."""
    delete = state.library.delete_version
    gone = await state.threads.store(principal.tenant, delete, principal.tenant, name, version, actor=principal.actor)
    return AdapterDeleted(name=name, versions=[gone.version])


async def _set_state(
    state: ApiState, principal: Principal, name: str, version: int, wanted: VersionState
) -> AdapterObject:
    change = state.library.catalog.set_state
    changed = await state.threads.manage(
        principal.tenant, change, principal.tenant, name, version, wanted, actor=principal.actor
    )
    return view(state, principal.tenant, changed)
