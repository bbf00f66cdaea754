"""Bodies of /v1/chat/completions, in OpenAI's shape; text only."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_serializer

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.common import LARGEST, GenerationUsage
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.neutral import CHAT, Neutral
from headmix_server.api.schemas.numbers import Whole


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
    parallel_tool_calls: bool | None = None


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


class AssistantMessage(ResponseBody):
    """The message of a choice."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(ResponseBody):
    """One choice."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(ResponseBody):
    """The complete response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: GenerationUsage


class ChatDelta(ResponseBody):
    """What an event adds to a message; fields that add nothing are omitted."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _without_nothing(self) -> dict[str, str]:
        fields = {"role": self.role, "content": self.content}
        return {name: value for name, value in fields.items() if value is not None}


class ChatChunkChoice(ResponseBody):
    """What an event adds to one choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(ResponseBody):
    """One event of a streamed response."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: GenerationUsage | None = None
