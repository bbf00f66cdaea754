"""Requests of /v1/responses as chats: both are processed the same way, and only their bodies differ."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headmix_server.api.inference.chats.response_turns import turns_of
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.response_tools import ResponseNamedTool, as_chat_tool
from headmix_server.api.schemas.responses import ResponsesRequest, TextFormat
from headmix_server.core.errors import HeadmixServerError, InvalidRequest

_SAME = (
    *("model", "user", "temperature", "top_p", "top_logprobs", "stream", "metadata", "service_tier"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *("parallel_tool_calls", "seed", "top_k", "min_p", "repetition_penalty", "split_special_tokens"),
)
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
}
"""The names of parameters in chats, and in responses."""


def as_chat(body: ResponsesRequest) -> ChatRequest:
    """Return the chat that gives the same answer.

    Raises:
        InvalidRequest: the input has no message.
    """
    given: dict[str, Any] = {name: getattr(body, name) for name in _SAME}
    form = None if body.text is None or body.text.format is None else _response_format(body.text.format)
    return ChatRequest.model_validate(
        {
            **given,
            "messages": _messages(body),
            "max_completion_tokens": body.max_output_tokens,
            "logprobs": body.wants_logprobs,
            "response_format": form,
            "tools": None if body.tools is None else [as_chat_tool(tool) for tool in body.tools],
            "tool_choice": _tool_choice(body.tool_choice),
        }
    )


@contextmanager
def names_of_responses() -> Iterator[None]:
    """Have errors name the parameters as responses do."""
    try:
        yield
    except HeadmixServerError as error:
        if error.param in _NAMES:
            if error.param != "messages":  # an ordinary word in errors, and right there
                error.message = error.message.replace(error.param, _NAMES[error.param])
            error.param = _NAMES[error.param]
        raise


def _messages(body: ResponsesRequest) -> list[ChatMessage]:
    begun = [] if body.instructions is None else [ChatMessage(role="system", content=body.instructions)]
    if isinstance(body.input, str):
        return [*begun, ChatMessage(role="user", content=body.input)]
    said = [*begun, *turns_of(body.input)]
    if not said:
        raise InvalidRequest("The input has no message: its reasoning is empty.", param="input")
    return said


def _tool_choice(given: str | ResponseNamedTool | None) -> object:
    return {"type": given.type, "function": {"name": given.name}} if isinstance(given, ResponseNamedTool) else given


def _response_format(given: TextFormat) -> dict[str, object]:
    if given.type != "json_schema":
        return {"type": given.type}
    schema = given.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
    return {"type": given.type, "json_schema": {"name": "answer", **schema}}
