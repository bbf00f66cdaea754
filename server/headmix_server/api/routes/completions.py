"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.fill_in import fill_in_prompts
from headmix_server.api.inference.prepare import Prepared, prepare
from headmix_server.api.inference.prompts import Room, splits, truncation_of
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
    _check(body)
    prepared = await prepare(request, body, admission, state, require_generation)
    steering = await steering_of(prepared, body, form_of(body))
    max_tokens = max(1, _asked(body))
    prompts = await _prompts(prepared, body, Room(prepared.context, max_tokens, "prompt"))
    if not prompts:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    await admission.reserve(
        sum(map(len, prompts)),
        max_tokens * body.candidates * len(prompts),
        param="prompt",
        completion_param=_limit_name(body),
    )
    scored = bool(body.echo) and body.logprobs is not None
    logprobs = 0 if body.logprobs is None and body.ranks else body.logprobs
    sampling = sampling_params(body, steering, max_tokens=max_tokens, logprobs=logprobs, prompt_logprobs=scored)
    shows_special = body.skip_special_tokens is False
    job = prepared.generation(
        prompts, sampling, choices=body.candidates, stops=body.stop or (), shows_special=shows_special
    )
    answer = CompletionAnswer(job, body)
    if body.stream:
        return await open_stream(request, answer.events())
    return WholeResponse(await until_disconnected(request, answer.whole()))


def _asked(body: CompletionRequest) -> int:
    """Return the most tokens that the client wants of a completion."""
    return DEFAULT_MAX_TOKENS if body.max_generated is None else body.max_generated


def _limit_name(body: CompletionRequest) -> str:
    return "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"


def _check(body: CompletionRequest) -> None:
    """Refuse parameters that contradict each other.

    Raises:
        InvalidRequest: with the parameter.
    """
    name = _limit_name(body)
    if _asked(body) == 0 and not body.echo:
        raise InvalidRequest(f"{name} must be at least 1 unless echo is true.", param=name)
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise InvalidRequest(f"best_of is {body.best_of}, less than n, which is {body.n}.", param="best_of")
    if body.ranks and body.stream:
        raise InvalidRequest("With best_of above n, completions cannot be streamed.", param="best_of")
    if body.suffix and body.echo:
        raise InvalidRequest("suffix and echo cannot be combined.", param="suffix")
    if body.suffix and body.truncate_prompt_tokens is not None:
        raise InvalidRequest("suffix and truncate_prompt_tokens cannot be combined.", param="truncate_prompt_tokens")


async def _prompts(prepared: Prepared, body: CompletionRequest, room: Room) -> list[list[int]]:
    """Return the prompts, around a suffix if there is one."""
    vocabulary, split = prepared.vocabulary, splits(prepared.state, body.split_special_tokens)
    if body.suffix:
        return await fill_in_prompts(vocabulary, body.prompts, body.suffix, room, split=split)
    truncation = truncation_of(body.truncate_prompt_tokens, room)
    return await vocabulary.prompts(body.prompts, room, split=split, truncation=truncation)
