"""Bodies of /v1/chat/completions, in OpenAI's shape; text only."""

from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, model_serializer

from headmix_server.api.schemas.common import (
    LARGEST,
    GenerationUsage,
    Neutral,
    RequestBody,
    ResponseBody,
    SamplingBody,
    Text,
)


class TextPart(RequestBody):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text


class ChatMessage(RequestBody):
    """One turn of the conversation; `content` is a text or a list of text parts, which are joined."""

    neutral: ClassVar[Neutral] = MappingProxyType(
        {
            "tool_calls": (None, []),
            "function_call": (None,),
            "refusal": (None,),
            "audio": (None,),
            "annotations": (None, []),
        }
    )

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Text | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(SamplingBody):
    """Answer a conversation."""

    neutral: ClassVar[Neutral] = MappingProxyType(
        {
            "audio": (None,),
            "function_call": (None, "none", "auto"),
            "functions": (None, []),
            "logit_bias": (None, {}),
            "modalities": (None, ["text"]),
            "prediction": (None,),
            "reasoning_effort": (None,),
            "response_format": (None, {"type": "text"}),
            "tool_choice": (None, "none", "auto"),
            "tools": (None, []),
            "verbosity": (None,),
            "web_search_options": (None,),
        }
    )

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, le=LARGEST, description="The rest of the context where it is absent.")
    max_completion_tokens: int | None = Field(
        None, ge=1, le=LARGEST, description="The newer name of `max_tokens`; it wins."
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    parallel_tool_calls: bool | None = None


class TopLogprob(ResponseBody):
    """One of the likeliest tokens at a place; `bytes` are the token's, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    """The chosen token, with the likeliest ones."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(ResponseBody):
    """One entry a token of the content."""

    content: list[ChatTokenLogprob]
    refusal: None = None


class AssistantMessage(ResponseBody):
    """The answer's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(ResponseBody):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(ResponseBody):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: GenerationUsage


class ChatDelta(ResponseBody):
    """What an event adds to a message; fields that add nothing are left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _without_nothing(self) -> dict[str, str]:
        fields = {"role": self.role, "content": self.content}
        return {name: value for name, value in fields.items() if value is not None}


class ChatChunkChoice(ResponseBody):
    """What an event adds to one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(ResponseBody):
    """One event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: GenerationUsage | None = None
