"""The messages of a conversation, in OpenAI's shape; text only.

Clients send messages back as they received them, from this server or another, with extra fields that hold their own
notes or are empty. These are accepted and have no effect; an assistant's reasoning goes to the template. Other fields,
which would change the prompt, are refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from headmix_server.api.schemas.body import RequestBody, shown, unsupported
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.neutral import MESSAGE, Neutral
from headmix_server.api.schemas.tools import MAX_TOOLS, MessageToolCall

Ignored = Annotated[Any, AfterValidator(lambda _: None), Field(description="Accepted without effect.")]
"""The value is not kept either, since it may be of any size."""

_TEXT, _PARTS = "<text>", "<parts>"
_REASONING = ("reasoning", "reasoning_content")
_TEXT_KINDS = ("text", "input_text", "output_text")


class TextPart(RequestBody):
    """One part of a message's content; the other two types are what the Responses API calls a text."""

    drops_null: ClassVar[bool] = True
    neutral: ClassVar[Neutral] = {"annotations": ([],), "logprobs": ([],)}

    type: Literal["text", "input_text", "output_text"]
    text: Text
    cache_control: Ignored = None
    prompt_cache_breakpoint: Ignored = None

    @model_validator(mode="before")
    @classmethod
    def _require_text(cls, part: object) -> object:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in _TEXT_KINDS:
            raise unsupported("type", f"Content of the type {shown(kind)} is not supported, only text is.")
        return part


def _kind(content: object) -> str | None:
    return _TEXT if isinstance(content, str) else _PARTS if isinstance(content, list) else None


Content = Annotated[
    Annotated[Text, Tag(_TEXT)] | Annotated[list[TextPart], Field(fail_fast=True), Tag(_PARTS)],
    Discriminator(
        _kind,
        custom_error_type="content_shape",
        custom_error_message="Input should be a text or a list of text parts",
    ),
]


class ChatMessage(RequestBody):
    """One turn of the conversation; `content` is a text or a list of text parts, which are joined.

    An assistant's turn without content counts as an empty text, and may have `reasoning_content`, or `reasoning`.
    `tool_calls` are the calls it made; the result of each is the content of a turn of the role `tool` with its
    `tool_call_id`.
    """

    neutral: ClassVar[Neutral] = MESSAGE
    drops_null: ClassVar[bool] = True

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content
    name: Text | None = None
    tool_calls: Annotated[list[MessageToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_call_id: Text | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    id: Ignored = None
    cache_control: Ignored = None
    opts: Ignored = None
    provider_specific_fields: Ignored = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, message: object) -> object:
        if not isinstance(message, dict):
            return message
        role = message.get("role")
        if role == "function":
            raise unsupported("role", "Messages of the role 'function' are not supported: use the role 'tool'.")
        if role != "assistant":
            for name in _REASONING:
                if message.get(name) not in (None, ""):
                    raise unsupported(name, f"The parameter {name!r} is only supported in an assistant's message.")
            return message
        return _with_content(message) if message.get("content") is None else message

    @model_validator(mode="after")
    def _require_tool_fields(self) -> "ChatMessage":
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of the role 'tool' needs a tool_call_id")
        if self.role != "tool" and self.tool_call_id:
            raise ValueError("only a message of the role 'tool' has a tool_call_id")
        return self

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def turn(self) -> dict[str, object]:
        """The message as templates see it."""
        turn: dict[str, object] = {"role": self.role, "content": self.text, "name": self.name}
        if reasoning := self.reasoning or self.reasoning_content:
            turn["reasoning_content"] = reasoning
        if self.tool_calls:
            turn["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id:
            turn["tool_call_id"] = self.tool_call_id
        return turn


def _with_content(message: Mapping[str, object]) -> dict[str, object]:
    return {**message, "content": ""}
