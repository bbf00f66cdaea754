"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.prepare import prepare
from headmix_server.api.inference.prompts import Room, splits
from headmix_server.api.inference.resolve import require_generation
from headmix_server.api.inference.sampling import sampling_params
from headmix_server.api.inference.steering import form_of, steering_of
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.responses.completion import CompletionAnswer
from headmix_server.api.responses.sse import STREAMED, open_stream
from headmix_server.api.responses.whole_response import WholeResponse
from headmix_server.api.schemas.completions import Completion, CompletionRequest
from headmix_server.core.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 16
router = APIRouter(tags=["generation"], route_class=GuardedRoute)


@router.post("/v1/completions", responses=STREAMED, response_model=Completion)
async def create_completion(request: Request, body: CompletionRequest, admission: Admitted, state: State) -> Response:
    """Continue one or more prompts; `stream` sends the text as it arrives."""
    asked = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if asked == 0 and not body.echo:
        raise InvalidRequest("max_tokens must be at least 1 unless echo is true.", param="max_tokens")
    prepared = await prepare(request, body, admission, state, require_generation)
    steering = await steering_of(prepared, body, form_of(body))
    max_tokens, choices = max(1, asked), body.n or 1
    room = Room(prepared.context, max_tokens, "prompt")
    split = splits(state, body.split_special_tokens)
    prompts = await prepared.vocabulary.prompts(body.prompts, room, split=split)
    if not prompts:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    await admission.reserve(
        sum(map(len, prompts)),
        max_tokens * choices * len(prompts),
        param="prompt",
        completion_param="max_tokens",
    )
    scored = bool(body.echo) and body.logprobs is not None
    sampling = sampling_params(body, steering, max_tokens=max_tokens, logprobs=body.logprobs, prompt_logprobs=scored)
    job = prepared.generation(prompts, sampling, choices=choices, stops=body.stop or ())
    answer = CompletionAnswer(job, body)
    if body.stream:
        return await open_stream(request, answer.events())
    return WholeResponse(await until_disconnected(request, answer.whole()))
