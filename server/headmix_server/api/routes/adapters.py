"""/v1/adapters: the tenant's adapters, from upload to deletion."""

from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from headmix_adapters.config import Problem
from headmix_server.api.adapter_view import view, view_page
from headmix_server.api.dependencies import AdaptersKey, AnyKey, State
from headmix_server.api.inference.generation_job import engine_request_id
from headmix_server.api.inference.resolve import adapter_header, hold_version
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.naming import Named, OwnName
from headmix_server.api.paging import AfterName, AfterVersion, Limit
from headmix_server.api.schemas.adapters import (
    AdapterDeleted,
    AdapterDetails,
    AdapterList,
    AdapterObject,
    LoadRequest,
    RollbackRequest,
    adapter_details,
    adapter_object,
)
from headmix_server.api.state import ApiState
from headmix_server.api.uploads.publish import receive_and_publish
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import ArtifactDamaged
from headmix_server.core.messages import AdapterLoaded, LoadAdapter
from headmix_server.core.types import Residency

router = APIRouter(tags=["adapters"], route_class=GuardedRoute)

_UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string"},
                        "file": {"type": "string", "format": "binary"},
                        "allow_base_mismatch": {"type": "boolean", "default": False},
                        "current": {
                            "type": "boolean",
                            "default": True,
                            "description": "false: add the version next to the current one, to try as a canary",
                        },
                        "config": {
                            "type": "string",
                            "description": "a PEFT LoRA's adapter_config.json; adapter_model.safetensors is the file",
                        },
                        "labels": {"type": "string", "description": "JSON list: the classes of a PEFT LoRA's head"},
                        "problem": {"type": "string", "enum": list(get_args(Problem))},
                    },
                }
            }
        },
    }
}

_SAME_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"model": AdapterObject, "description": "The current version has these bytes already."}
}


@router.post("/v1/adapters", status_code=201, openapi_extra=_UPLOAD_FORM, responses=_SAME_BYTES)
async def upload_adapter(request: Request, response: Response, principal: AdaptersKey, state: State) -> AdapterObject:
    """Upload an artifact, or a PEFT LoRA to convert, as the current version of a name or as an additional one.

    200 if that version has these bytes already.
    """
    published = await receive_and_publish(request, state, principal)
    record_of(request).concerns(published.version.called_by(principal.tenant), published.version.digest)
    response.status_code = 201 if published.created else 200
    return view(state, principal.tenant, published.version)


@router.get("/v1/adapters", response_model=AdapterList)
async def list_adapters(principal: AnyKey, state: State, limit: Limit = 100, after: AfterName = None) -> Response:
    """Return the current version of each adapter: the tenant's by name, then those that others share with it."""

    def found() -> bytes:
        page = state.library.catalog.sharing.visible(principal.tenant, after=after or "", limit=limit)
        return view_page(state, principal.tenant, page)

    return Response(await state.threads.manage(principal.tenant, found), media_type="application/json")


@router.get("/v1/adapters/{name}")
async def get_adapter(request: Request, named: Named, principal: AnyKey, state: State) -> AdapterDetails:
    """Return the current version, or the one that `name@3` names, with its example prompts and training history."""
    version = await _resolve(request, state, named)
    description = await state.threads.manage(principal.tenant, state.library.catalog.descriptions.of, version.digest)
    return adapter_details(principal.tenant, version, state.residency(principal.tenant, version.digest), description)


@router.get("/v1/adapters/{name}/versions", response_model=AdapterList)
async def list_versions(
    named: Named, principal: AnyKey, state: State, limit: Limit = 100, after: AfterVersion = None
) -> Response:
    """Return the versions, newest first."""

    def found() -> bytes:
        page = state.library.catalog.versions(principal.tenant, named, before=after, limit=limit)
        return view_page(state, principal.tenant, page)

    return Response(await state.threads.manage(principal.tenant, found), media_type="application/json")


@router.get("/v1/adapters/{name}/file", response_class=FileResponse)
async def download_adapter(
    request: Request, named: Named, principal: AdaptersKey, state: State, version: int | None = None
) -> FileResponse:
    """Return the artifact's bytes."""
    chosen = await _resolve(request, state, named, version)
    await until_disconnected(request, state.fetcher.download(chosen.digest, principal.tenant))
    path = state.library.path(chosen)
    try:
        found = await state.threads.manage(principal.tenant, path.stat)
    except FileNotFoundError as error:
        raise ArtifactDamaged(f"The bytes of {chosen.reference} are missing: upload them again.") from error
    return FileResponse(
        path,
        stat_result=found,
        media_type="application/octet-stream",
        filename=f"{chosen.name}-{chosen.version}.safetensors",
        headers={**adapter_header(principal.tenant, chosen), "etag": f'"{chosen.digest}"'},
    )


@router.delete("/v1/adapters/{name}")
async def delete_adapter(name: OwnName, principal: AdaptersKey, state: State) -> AdapterDeleted:
    """Delete the adapter with all its versions; running and queued requests that use it finish."""
    deleted = await state.threads.store(
        principal.tenant, state.library.delete, principal.tenant, name, actor=principal.actor
    )
    return AdapterDeleted(name=name, versions=list(deleted.versions))


@router.post("/v1/adapters/{name}/rollback")
async def rollback_adapter(
    request: Request, name: OwnName, principal: AdaptersKey, state: State, body: RollbackRequest | None = None
) -> AdapterObject:
    """Make another version current: the one given, or the previous one."""
    number = None if body is None else body.version
    rollback = state.library.catalog.rollback
    version = await state.threads.manage(
        principal.tenant, rollback, principal.tenant, name, number, actor=principal.actor
    )
    record_of(request).concerns(version.called_by(principal.tenant), version.digest)
    return view(state, principal.tenant, version)


@router.post("/v1/adapters/{name}/load")
async def load_adapter(
    request: Request, named: Named, principal: AdaptersKey, state: State, body: LoadRequest | None = None
) -> AdapterObject:
    """Load a version onto the device ahead of requests; responds once it is loaded."""
    version = await _resolve(request, state, named, None if body is None else body.version)
    ref = state.library.ref(version, principal.tenant)
    message = LoadAdapter(request_id=engine_request_id(record_of(request)), adapter=ref)
    await until_disconnected(request, _load(state, message))
    return adapter_object(principal.tenant, version, Residency.DEVICE)


async def _load(state: ApiState, message: LoadAdapter) -> None:
    await state.fetcher.download(message.adapter.digest, message.adapter.tenant)
    await state.engine.ask(message, AdapterLoaded)


async def _resolve(request: Request, state: ApiState, named: str, number: int | None = None) -> AdapterVersion:
    asked = named if number is None else f"{named}@{number}"
    return await hold_version(state, asked, record_of(request))
