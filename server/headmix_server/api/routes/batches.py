"""/v1/batches: a tenant's batches, in OpenAI's form."""

from typing import Annotated

from fastapi import APIRouter, Query

from headmix_server.api.dependencies import InferenceKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.batches import BatchList, BatchObject, BatchRequest, batch_object
from headmix_server.api.uploads.receiving import quota_of
from headmix_server.batches.batches import Batch, NewBatch

router = APIRouter(tags=["batches"], route_class=GuardedRoute)

BatchLimit = Annotated[int, Query(ge=1, le=100, description="maximum batches per page")]
AfterBatch = Annotated[str | None, Query(max_length=64, description="the last batch of the previous page")]


@router.post("/v1/batches")
async def create_batch(body: BatchRequest, principal: InferenceKey, state: State) -> BatchObject:
    """Have the requests of an uploaded file answered when there is room."""
    kept = body.output_expires_after
    new = NewBatch(
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata,
        output_seconds=None if kept is None else kept.seconds,
    )
    tenant = principal.tenant

    def create() -> Batch:
        quota = quota_of(state, tenant)
        return state.batches.create(tenant, new, key_id=principal.key_id, actor=principal.actor, quota=quota)

    return batch_object(await state.threads.manage(tenant, create))


@router.get("/v1/batches")
async def list_batches(
    principal: InferenceKey, state: State, after: AfterBatch = None, limit: BatchLimit = 20
) -> BatchList:
    """Return the tenant's batches, newest first."""
    find, tenant = state.batches.list, principal.tenant
    found = await state.threads.manage(tenant, find, tenant, after=after, limit=limit + 1)
    data = [batch_object(batch) for batch in found[:limit]]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/v1/batches/{batch_id}")
async def get_batch(batch_id: str, principal: InferenceKey, state: State) -> BatchObject:
    """Return one batch."""
    return batch_object(await state.threads.manage(principal.tenant, state.batches.get, principal.tenant, batch_id))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, principal: InferenceKey, state: State) -> BatchObject:
    """Cancel a batch; what is answered already is kept in its files."""
    cancel, tenant = state.batches.cancel, principal.tenant
    return batch_object(await state.threads.manage(tenant, cancel, tenant, batch_id, actor=principal.actor))
