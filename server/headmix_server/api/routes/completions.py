"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.generation_job import Job
from headmix_server.api.inference.prompts import Room, splits, vocabulary_of
from headmix_server.api.inference.resolve import require_generation, resolve_model
from headmix_server.api.inference.sampling import context_length, sampling_params
from headmix_server.api.inference.tenant_limits import Admission, Admitted
from headmix_server.api.middleware.bounds import bounds_of
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.responses.completion import CompletionAnswer
from headmix_server.api.responses.sse import STREAMED, open_stream
from headmix_server.api.responses.whole_response import WholeResponse
from headmix_server.api.schemas.completions import Completion, CompletionRequest
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 16
router = APIRouter(tags=["generation"], route_class=GuardedRoute)


@router.post("/v1/completions", responses=STREAMED, response_model=Completion)
async def create_completion(request: Request, body: CompletionRequest, admission: Admitted, state: State) -> Response:
    """Continue a prompt, or several; `stream` sends the text as it comes."""
    job = await _make_job(request, body, admission, state)
    answer = CompletionAnswer(job, body)
    if body.stream:
        return await open_stream(request, answer.events())
    return WholeResponse(await until_disconnected(request, answer.whole()))


async def _make_job(request: Request, body: CompletionRequest, admission: Admission, state: ApiState) -> Job:
    record = record_of(request)
    bounds_of(state.settings).check(body)
    model = await resolve_model(request, state, body.model, body.user)
    require_generation(state, model)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if max_tokens == 0 and not body.echo:
        raise InvalidRequest("max_tokens must be at least 1 unless echo is true.", param="max_tokens")
    choices = body.n or 1
    ready = state.engine.require_ready()
    vocabulary = await vocabulary_of(request, state, model, admission.tenant)
    room = Room(context_length(ready), max(1, max_tokens), "prompt")
    prompts = await vocabulary.prompts(body.prompts, room, split=splits(state, body.split_special_tokens))
    if not prompts:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    await admission.reserve(
        sum(map(len, prompts)),
        max(1, max_tokens) * choices * len(prompts),
        param="prompt",
        completion_param="max_tokens",
    )
    sampling = sampling_params(
        body,
        max_tokens=max(1, max_tokens),
        logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
    )
    return Job(
        state=state,
        record=record,
        tenant=admission.tenant,
        weight=admission.limits.weight,
        model=model,
        tokenizer=vocabulary.tokenizer,
        prompts=tuple(map(tuple, prompts)),
        sampling=sampling,
        choices=choices,
        stops=tuple(body.stop or ()),
    )
