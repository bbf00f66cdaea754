"""/v1/fine_tuning/jobs: a tenant's fine-tuning jobs, in OpenAI's form."""

import time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from headmix_server.api.dependencies import AdaptersKey, AnyKey, State
from headmix_server.api.fine_tuning.event_stream import stream_events
from headmix_server.api.fine_tuning.translate import translate
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.responses.fine_tuning import checkpoint_object, event_number, event_object, job_object
from headmix_server.api.responses.sse import STREAMED, open_stream
from headmix_server.api.schemas.fine_tuning import (
    FineTuningCheckpointList,
    FineTuningEventList,
    FineTuningJob,
    FineTuningJobList,
    FineTuningRequest,
)
from headmix_server.api.state import ApiState
from headmix_server.api.uploads.receiving import quota_of
from headmix_server.core.errors import InvalidRequest
from headmix_server.fine_tuning.creation import create_job
from headmix_server.fine_tuning.quotas import TrainingQuota
from headmix_server.fine_tuning.selection import Selection, find_job, list_jobs
from headmix_server.jobs.job import Job, Wanted
from headmix_server.tenancy.keys.principal import Principal

router = APIRouter(tags=["fine-tuning"], route_class=GuardedRoute)

_MOST = 100
Limit = Annotated[int, Query(ge=1, le=_MOST, description="maximum entries per page")]
After = Annotated[str | None, Query(description="the last id of the previous page")]


@router.post("/v1/fine_tuning/jobs")
async def create_fine_tuning_job(body: FineTuningRequest, principal: AdaptersKey, state: State) -> FineTuningJob:
    """Create a job. Its data is checked next; a fault in it ends the job as `failed`, with each line in `error`."""

    def create() -> Job:
        request = translate(state, principal, body)
        limits = state.limits.of(principal.tenant)
        quota = TrainingQuota(jobs=limits.training_jobs, tokens_per_day=limits.training_tokens_per_day)
        storage = quota_of(state, principal.tenant)
        return create_job(state.jobs, principal.tenant, request, quota, storage)

    job = await state.threads.manage(principal.tenant, create)
    state.job_created.set()
    return job_object(job, now=time.time())


@router.get("/v1/fine_tuning/jobs")
async def list_fine_tuning_jobs(
    request: Request, principal: AnyKey, state: State, after: After = None, limit: Limit = 20
) -> FineTuningJobList:
    """Return the tenant's jobs, newest first.

    `metadata[key]=value` selects those with this pair, `metadata=null` those without metadata.
    """
    selection = _selection(request)

    def found() -> FineTuningJobList:
        jobs, has_more = list_jobs(state.jobs, principal.tenant, selection, after=after, limit=limit)
        now = time.time()
        return FineTuningJobList(data=[job_object(job, now=now) for job in jobs], has_more=has_more)

    return await state.threads.manage(principal.tenant, found)


@router.get("/v1/fine_tuning/jobs/{job_id}")
async def get_fine_tuning_job(job_id: str, principal: AnyKey, state: State) -> FineTuningJob:
    """Return a job."""
    return job_object(await _get(state, principal, job_id), now=time.time())


@router.post("/v1/fine_tuning/jobs/{job_id}/cancel")
async def cancel_fine_tuning_job(job_id: str, principal: AdaptersKey, state: State) -> FineTuningJob:
    """Cancel a job; one that runs stops at its next step and publishes nothing."""
    return await _want(state, principal, job_id, "cancel")


@router.post("/v1/fine_tuning/jobs/{job_id}/pause")
async def pause_fine_tuning_job(job_id: str, principal: AdaptersKey, state: State) -> FineTuningJob:
    """Pause a job; one that runs stops at its next step with a checkpoint."""
    return await _want(state, principal, job_id, "pause")


@router.post("/v1/fine_tuning/jobs/{job_id}/resume")
async def resume_fine_tuning_job(job_id: str, principal: AdaptersKey, state: State) -> FineTuningJob:
    """Let a paused job continue from its checkpoint."""
    await _get(state, principal, job_id)
    resume = partial(state.jobs.resume, principal.tenant, job_id, actor=principal.actor)
    job = await state.threads.manage(principal.tenant, resume)
    return job_object(job, now=time.time())


@router.get("/v1/fine_tuning/jobs/{job_id}/events", responses=STREAMED, response_model=FineTuningEventList)
async def list_fine_tuning_events(
    request: Request,
    job_id: str,
    principal: AnyKey,
    state: State,
    after: After = None,
    limit: Limit = 20,
    stream: bool = False,
) -> Response | FineTuningEventList:
    """Return a job's events, newest first; with `stream`, those after `after` as they happen, oldest first."""
    job = await _get(state, principal, job_id)
    number = None if after is None else event_number(after, job_id)
    if after is not None and number is None:
        raise InvalidRequest("after takes the id of an event of this job.", param="after")
    if stream:
        return await open_stream(request, stream_events(state, job, number or 0))

    def found() -> FineTuningEventList:
        events = state.jobs.events(job_id, after=number, limit=limit + 1, newest_first=True)
        return FineTuningEventList(data=[event_object(event) for event in events[:limit]], has_more=len(events) > limit)

    return await state.threads.manage(principal.tenant, found)


@router.get("/v1/fine_tuning/jobs/{job_id}/checkpoints")
async def list_fine_tuning_checkpoints(
    job_id: str, principal: AnyKey, state: State, after: After = None, limit: Limit = 10
) -> FineTuningCheckpointList:
    """Return the states from which a job's training can continue, newest first."""
    await _get(state, principal, job_id)

    def found() -> FineTuningCheckpointList:
        checkpoints = state.jobs.checkpoints(job_id, after=after, limit=limit + 1)
        data = [checkpoint_object(one) for one in checkpoints[:limit]]
        return FineTuningCheckpointList(
            data=data,
            has_more=len(checkpoints) > limit,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )

    return await state.threads.manage(principal.tenant, found)


async def _get(state: ApiState, principal: Principal, job_id: str) -> Job:
    """Return a fine-tuning job.

    Raises:
        NotFound: the tenant has none of this id.
    """
    return await state.threads.manage(principal.tenant, find_job, state.jobs, principal.tenant, job_id)


async def _want(state: ApiState, principal: Principal, job_id: str, wanted: Wanted) -> FineTuningJob:
    await _get(state, principal, job_id)
    want = partial(state.jobs.want, principal.tenant, job_id, wanted, actor=principal.actor)
    job = await state.threads.manage(principal.tenant, want)
    return job_object(job, now=time.time())


def _selection(request: Request) -> Selection:
    """Return which jobs the query's `metadata` selects."""
    query, pairs = request.query_params, {}
    if "metadata" in query:
        if query["metadata"] != "null":
            raise InvalidRequest("metadata takes null; a pair is written as metadata[key]=value.", param="metadata")
        return Selection(None)
    for name, value in query.items():
        if name.startswith("metadata[") and name.endswith("]"):
            pairs[name[len("metadata[") : -1]] = value
    return Selection(pairs)
