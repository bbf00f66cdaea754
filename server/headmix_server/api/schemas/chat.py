"""Bodies of /v1/chat/completions, in OpenAI's shape; text only."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.common import LARGEST, GenerationUsage
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.json_object import JsonObject
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.neutral import CHAT, Neutral
from headmix_server.api.schemas.numbers import Whole
from headmix_server.api.schemas.tools import ToolChoice, Tools


class ChatRequest(SamplingBody):
    """Answer a conversation."""

    neutral: ClassVar[Neutral] = CHAT

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1, le=LARGEST), Whole] | None = Field(
        None, description="Defaults to the rest of the context."
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=LARGEST), Whole] | None = Field(
        None, description="The newer name of `max_tokens`, which it overrides."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    tools: Tools | None = Field(None, description="Functions that the model may call.")
    tool_choice: ToolChoice | None = Field(None, description="Defaults to `auto` where there are tools.")
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call in an answer.")
    add_generation_prompt: bool | None = Field(
        None, description="False: the prompt does not begin an assistant's turn. True unless the last turn goes on."
    )
    continue_final_message: bool | None = Field(None, description="The answer continues the last message.")
    chat_template_kwargs: JsonObject | None = Field(None, description="Variables of the base's chat template.")


class TopLogprob(ResponseBody):
    """One of the most probable tokens at a position; `bytes` are what it adds to the text, maybe part of a character.

    Null if it adds nothing, as a special token does.
    """

    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogprob(TopLogprob):
    """The chosen token, and the most probable ones at its position."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(ResponseBody):
    """One entry per token of the content."""

    content: list[ChatTokenLogprob]
    refusal: None = None


class CalledFunction(ResponseBody):
    """A function's name, and its arguments as a JSON text: an object."""

    name: str
    arguments: str


class ToolCall(ResponseBody):
    """A call of a tool: send it back in the assistant's message, with its result in a message of the role `tool`."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(ResponseBody):
    """The message of a choice; `content` is null if it only calls tools.

    `reasoning_content` and `tool_calls` are absent where there are none.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        absent = [name for name in ("reasoning_content", "tool_calls") if getattr(self, name) is None]
        return {name: value for name, value in serialize(self).items() if name not in absent}


class ChatChoice(ResponseBody):
    """One choice."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(ResponseBody):
    """The complete response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: GenerationUsage


class FunctionDelta(ResponseBody):
    """What an event adds to a call: the name first, then more of the arguments' text."""

    name: str | None = None
    arguments: str | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(serialize(self))


class CallDelta(ResponseBody):
    """What an event adds to one call. Its first event has `id`, `type`, the name and empty arguments."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(serialize(self))


class ChatDelta(ResponseBody):
    """What an event adds to a message; fields that add nothing are omitted."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return present(serialize(self))


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not null."""
    return {name: value for name, value in fields.items() if value is not None}


class ChatChunkChoice(ResponseBody):
    """What an event adds to one choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class ChatChunk(ResponseBody):
    """One event of a streamed response."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: GenerationUsage | None = None
