"""/v1/files: the tenant's files, as OpenAI's clients upload and read them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from headmix_server.api.dependencies import AdaptersKey, AnyKey, State
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.files import FileDeleted, FileList, FileObject, file_object, file_page
from headmix_server.api.uploads.receive_file import (
    ANCHOR,
    CREATED_AT,
    LONGEST,
    SECONDS,
    SHORTEST,
    receive_file,
)
from headmix_server.files.stored_file import UPLOADED, Purpose

router = APIRouter(tags=["files"], route_class=GuardedRoute)

MOST_LISTED = 1000
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [purpose.value for purpose in UPLOADED]},
                        ANCHOR: {"type": "string", "enum": [CREATED_AT]},
                        SECONDS: {"type": "integer", "minimum": SHORTEST, "maximum": LONGEST},
                    },
                }
            }
        },
    }
}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file's bytes.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/v1/files", openapi_extra=_FORM)
async def upload_file(request: Request, principal: AdaptersKey, state: State) -> FileObject:
    """Upload a file for jobs to use."""
    return file_object(await receive_file(request, state, principal))


@router.get("/v1/files", response_model=FileList)
async def list_files(
    principal: AnyKey,
    state: State,
    purpose: Purpose | None = None,
    after: Annotated[str | None, Query(max_length=64, description="the id of the previous page's last file")] = None,
    limit: Annotated[
        int, Query(ge=1, le=10_000, description=f"maximum entries per page, of which there are at most {MOST_LISTED}")
    ] = MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """Return the tenant's files by the time they were created, newest first unless `order` is `asc`."""

    def found() -> bytes:
        page = state.files.list(
            principal.tenant,
            purpose=purpose,
            after=after,
            limit=min(limit, MOST_LISTED),
            newest_first=order == "desc",
        )
        return file_page(page)

    return Response(await state.threads.manage(principal.tenant, found), media_type="application/json")


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, principal: AnyKey, state: State) -> FileObject:
    """Return a file's name, size and purpose."""
    return file_object(await state.threads.manage(principal.tenant, state.files.get, principal.tenant, file_id))


@router.get("/v1/files/{file_id}/content", response_class=StreamingResponse, responses=_BYTES)
async def get_content(request: Request, file_id: str, principal: AdaptersKey, state: State) -> StreamingResponse:
    """Return a file's bytes."""
    file = await state.threads.manage(principal.tenant, state.files.get, principal.tenant, file_id)
    blocks = await until_disconnected(request, state.files.bytes.blocks(file.digest))
    return StreamingResponse(
        await _begun(blocks),
        media_type="application/octet-stream",
        headers={
            "content-length": str(file.size_bytes),
            "content-disposition": f"attachment; filename*=utf-8''{quote(file.filename, safe='')}",
            "etag": f'"{file.digest}"',
        },
    )


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, principal: AdaptersKey, state: State) -> FileDeleted:
    """Delete a file. Jobs that were made with it keep its bytes, which count until they end."""
    gone = await state.threads.store(
        principal.tenant, state.files.delete, principal.tenant, file_id, actor=principal.actor
    )
    return FileDeleted(id=gone.file.id, held_by_jobs=gone.held_by_jobs)


async def _begun(blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Read the first block, whose errors can still be answered; the blocks after it are read as they are sent.

    Raises:
        ArtifactDamaged, StorageUnavailable: it cannot be read.
    """
    first = await anext(blocks, b"")

    async def rest() -> AsyncGenerator[bytes, None]:
        async with aclosing(blocks):
            yield first
            async for block in blocks:
                yield block

    return rest()
