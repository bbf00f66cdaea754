"""/v1/models: what the tenant can name as `model`."""

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import AdaptersKey, AnyKey, State
from headmix_server.api.inference.lengths import context_length
from headmix_server.api.inference.resolve import hold_version
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.naming import own_name
from headmix_server.api.paging import AfterName, Limit
from headmix_server.api.schemas.models import Capability, ModelDeleted, ModelList, ModelObject
from headmix_server.api.state import ApiState
from headmix_server.catalog.names import NOWHERE, parse_reference
from headmix_server.catalog.queries import not_found
from headmix_server.catalog.version import AdapterVersion, VersionState
from headmix_server.core.errors import InvalidRequest

BASE_OWNER = "headmix"
router = APIRouter(tags=["models"], route_class=GuardedRoute)


@router.get("/v1/models", response_model=ModelList)
async def list_models(principal: AnyKey, state: State, limit: Limit = 1000, after: AfterName = None) -> Response:
    """Return the base (on the first page), the tenant's adapters, and those that others share with it."""

    def page() -> bytes:
        # Encoded here, in a thread: a thousand adapters would block the event loop for a while.
        tenant = principal.tenant
        found = state.library.catalog.sharing.visible(tenant, after=after or "", limit=limit)
        named = [version for version in found.versions if version.state is VersionState.READY]
        adapters = [_adapter(state, tenant, version.called_by(tenant), version) for version in named]
        base = [_base(state)] if after is None else []
        return ModelList(data=[*base, *adapters], has_more=found.has_more).model_dump_json().encode()

    return Response(await state.threads.manage(principal.tenant, page), media_type="application/json")


@router.get("/v1/models/{model:path}")
async def get_model(request: Request, model: str, principal: AnyKey, state: State) -> ModelObject:
    """Return the base, an adapter, or one version of it (`name@3`)."""
    if model == state.base.name:
        return _base(state)
    return _adapter(state, principal.tenant, model, await hold_version(state, model, record_of(request)))


@router.delete("/v1/models/{model:path}")
async def delete_model(model: str, principal: AdaptersKey, state: State) -> ModelDeleted:
    """Delete an adapter, or one version of it (`name@3`); the previous current version then replaces a current one."""
    if model == state.base.name:
        raise InvalidRequest("The base cannot be deleted.", param="model")
    reference = parse_reference(model)
    if reference == NOWHERE:
        raise not_found(model)
    named = reference.name if reference.owner is None else f"{reference.owner}/{reference.name}"
    name = await own_name(named, principal, state)
    delete = state.library.delete_model
    await state.threads.store(principal.tenant, delete, principal.tenant, name, reference.number, actor=principal.actor)
    return ModelDeleted(id=model)


def _base(state: ApiState) -> ModelObject:
    ready = state.engine.ready
    return ModelObject(
        id=state.base.name,
        created=state.created,
        owned_by=BASE_OWNER,
        root=state.base.name,
        task="generation" if state.generates else None,
        capabilities=["generation", "embedding"] if state.generates else ["embedding"],
        max_model_len=None if ready is None else context_length(ready),
    )


def _adapter(state: ApiState, tenant: str, name: str, version: AdapterVersion) -> ModelObject:
    return ModelObject(
        id=name,
        created=version.created,
        owned_by=version.tenant,
        root=version.name,
        parent=state.base.name,
        task=version.config.task,
        capabilities=_capabilities(state, version),
        labels=list(version.labels) or None,
        version=version.version,
        digest=version.digest,
        resident=state.residency(tenant, version.digest),
    )


def _capabilities(state: ApiState, version: AdapterVersion) -> list[Capability]:
    serves_task = version.config.task == "classification" or state.generates
    return [version.config.task, "embedding"] if serves_task else ["embedding"]
