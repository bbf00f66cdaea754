"""/v1/uploads: a file that arrives in parts."""

from typing import Any

from fastapi import APIRouter, Request

from headmix_server.api.dependencies import AdaptersKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.files import (
    CompleteRequest,
    PartObject,
    UploadObject,
    UploadRequest,
    part_object,
    upload_object,
)
from headmix_server.api.uploads.receive_file import receive_part
from headmix_server.api.uploads.receiving import MIB, quota_of
from headmix_server.core.errors import PayloadTooLarge
from headmix_server.files.stored_file import read_purpose
from headmix_server.files.uploads import PartialUpload

router = APIRouter(tags=["files"], route_class=GuardedRoute)

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("/v1/uploads")
async def create_upload(body: UploadRequest, principal: AdaptersKey, state: State) -> UploadObject:
    """Announce a file that arrives in parts; its bytes count against the quota from now on."""
    tenant, max_bytes = principal.tenant, state.settings.max_file_mib * MIB
    purpose = read_purpose(body.purpose)
    if body.bytes > max_bytes:
        raise PayloadTooLarge(f"The file is larger than the limit of {max_bytes} bytes.", param="bytes")

    def create() -> PartialUpload:
        return state.uploads.create(
            tenant,
            purpose,
            body.filename,
            body.mime_type,
            body.bytes,
            lifetime=None if body.expires_after is None else body.expires_after.seconds,
            quota=quota_of(state, tenant),
            actor=principal.actor,
        )

    return upload_object(await state.threads.manage(tenant, create))


@router.post("/v1/uploads/{upload_id}/parts", openapi_extra=_FORM)
async def add_part(request: Request, upload_id: str, principal: AdaptersKey, state: State) -> PartObject:
    """Upload a part; parts may arrive in any order, and several at once."""
    return part_object(await receive_part(request, state, principal, upload_id))


@router.post("/v1/uploads/{upload_id}/complete")
async def complete_upload(upload_id: str, body: CompleteRequest, principal: AdaptersKey, state: State) -> UploadObject:
    """Make the parts, in the given order, a file."""
    done = await state.threads.store(
        principal.tenant,
        state.uploads.complete,
        principal.tenant,
        upload_id,
        body.part_ids,
        md5=body.md5,
        actor=principal.actor,
    )
    return upload_object(done)


@router.post("/v1/uploads/{upload_id}/cancel")
async def cancel_upload(upload_id: str, principal: AdaptersKey, state: State) -> UploadObject:
    """Cancel an upload and remove its parts."""
    cancel = state.uploads.cancel
    return upload_object(
        await state.threads.store(principal.tenant, cancel, principal.tenant, upload_id, actor=principal.actor)
    )
