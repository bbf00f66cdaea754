"""POST /v1/chat/completions."""

from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from headmix_server.api.dependencies import State
from headmix_server.api.inference.chats.chat_prompt import chat_prompt, tools_of
from headmix_server.api.inference.chats.templates import template_of
from headmix_server.api.inference.chats.tools import ToolUse
from headmix_server.api.inference.generation_job import Job
from headmix_server.api.inference.lengths import check_length
from headmix_server.api.inference.prepare import Prepared, prepare
from headmix_server.api.inference.prompts import Room
from headmix_server.api.inference.resolve import require_generation
from headmix_server.api.inference.sampling import sampling_params
from headmix_server.api.inference.steering import form_of, steering_of
from headmix_server.api.inference.tenant_limits import Admission, Admitted
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.responses.chat import ChatAnswer
from headmix_server.api.responses.message import PLAIN, MessageWriter, Writers
from headmix_server.api.responses.sse import STREAMED, open_stream
from headmix_server.api.responses.whole_response import WholeResponse
from headmix_server.api.schemas.chat import ChatCompletion, ChatRequest
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidRequest

router = APIRouter(tags=["generation"], route_class=GuardedRoute)


@router.post("/v1/chat/completions", responses=STREAMED, response_model=ChatCompletion)
async def create_chat_completion(request: Request, body: ChatRequest, admission: Admitted, state: State) -> Response:
    """Answer a conversation; `stream` sends the text as it arrives."""
    work = await chat_work(request, body, admission, state)
    answer = ChatAnswer(work.job, body, work.writers)
    if body.stream:
        return await open_stream(request, answer.events())
    return WholeResponse(await until_disconnected(request, answer.whole()))


class ChatWork(NamedTuple):
    """The generation that a chat asks for, and what turns the text of each choice into a message."""

    job: Job
    writers: Writers


async def chat_work(request: Request, body: ChatRequest, admission: Admission, state: ApiState) -> ChatWork:
    """Return what a chat asks for.

    Raises:
        HeadmixServerError: as each of the steps.
    """
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    prepared = await prepare(request, body, admission, state, require_generation)
    template = template_of(state, prepared.model)
    tools = await tools_of(prepared, body, template)
    form = form_of(body)
    steering = await steering_of(prepared, body, form if tools is None else tools.form(form))
    asked, choices = body.max_completion_tokens or body.max_tokens, body.n or 1
    prompt = await chat_prompt(prepared, body, template, tools, Room(prepared.context, asked or 1, "messages"))
    check_length(len(prompt), asked or 1, prepared.context, param="messages")
    max_tokens = asked or _rest(prepared.context - len(prompt), admission.room(len(prompt)), choices)
    await admission.reserve(
        len(prompt),
        max_tokens * choices,
        param="messages",
        completion_param="max_completion_tokens" if body.max_completion_tokens else "max_tokens",
    )
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    sampling = sampling_params(body, steering, max_tokens=max_tokens, logprobs=logprobs)
    job = prepared.generation(
        [prompt],
        sampling,
        choices=choices,
        stops=body.stop or (),
        markers={} if tools is None else tools.markers,
        shows_special=body.skip_special_tokens is False,
    )
    return ChatWork(job, _writers(prepared, prompt, tools, bound=steering.grammar is not None))


def _rest(context: int, room: int | None, choices: int) -> int:
    """Return the length of each choice if the client sets none: what the context and its tenant's limits allow."""
    return context if room is None else max(1, min(context, room // choices))


def _writers(prepared: Prepared, prompt: list[int], tools: ToolUse | None, *, bound: bool) -> Writers:
    """Return what turns the text of each choice into a message."""
    if tools is None or not tools.callable:
        return PLAIN
    make = tools.readers(prepared.vocabulary.tokenizer, prompt, bound=bound)
    return lambda: MessageWriter(make(), tools.id_length)
