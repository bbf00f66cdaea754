"""Responses and stream events as bytes: the part around the choices is encoded once, the choices once per event.

A stream has one event per token, and building and dumping a pydantic model for each takes a tenth of the API process's
time at full load. The schemas remain the definition: the frame is a dump of one, and tests compare each choice with
them.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from pydantic import BaseModel

_CHOICES = b'"choices":[]'
_NO_USAGE = b'"usage":null'

SLOT = msgspec.Raw(b"\0")
"""A placeholder for a part that is inserted later; JSON never contains this byte."""


class TextChoice(msgspec.Struct, frozen=True):
    """`schemas.completions.CompletionChoice` in a stream's event; `logprobs` is JSON."""

    index: int
    text: str
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None = None


class FunctionDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`schemas.chat.FunctionDelta`: the name comes first, then the arguments piece by piece."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`schemas.chat.CallDelta`: the first one of a call has its id and type, the others only index and arguments."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class MessageDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`schemas.chat.ChatDelta`: fields that add nothing are omitted."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[CallDelta, ...] = ()


class MessageChoice(msgspec.Struct, frozen=True):
    """`schemas.chat.ChatChunkChoice` in a stream's event; `logprobs` is JSON."""

    index: int
    delta: MessageDelta
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None = None


class AnswerFunction(msgspec.Struct, frozen=True):
    """`schemas.chat.CalledFunction`."""

    name: str
    arguments: str


class AnswerCall(msgspec.Struct, frozen=True):
    """`schemas.chat.ToolCall`."""

    id: str
    function: AnswerFunction
    type: str = "function"


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`schemas.chat.AssistantMessage`; reasoning and calls are omitted where there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[AnswerCall, ...] | msgspec.UnsetType = msgspec.UNSET


class AnswerChoice(msgspec.Struct, frozen=True):
    """`schemas.chat.ChatChoice`; `logprobs` is JSON."""

    index: int
    message: AnswerMessage
    logprobs: msgspec.Raw | None
    finish_reason: str


class ChunkFrame:
    """The bytes before and after the choices of a response, or of every event of a stream.

    `without_choices` is the body with an empty list of choices; `exclude` lists fields to omit.
    """

    def __init__(self, without_choices: BaseModel, exclude: set[str] | None = None) -> None:
        # A quotation mark inside a string is escaped, so the key occurs exactly once, whatever the model is called.
        self._head, self._tail = without_choices.model_dump_json(exclude=exclude).encode().split(_CHOICES)

    def whole(
        self, choices: Sequence[TextChoice] | Sequence[AnswerChoice], scores: Sequence[Sequence[bytes]] = ()
    ) -> list[bytes]:
        """Return the JSON of a response with these choices, in pieces; `scores` go where `logprobs` is `SLOT`."""
        around = msgspec.json.encode(choices).split(bytes(SLOT))
        pieces = [self._head, b'"choices":', around[0]]
        for score, after in zip(scores, around[1:], strict=True):
            pieces += score
            pieces.append(after)
        return [*pieces, self._tail]

    def event(self, choice: TextChoice | MessageChoice, usage: bytes | None = None) -> bytes:
        """Return the JSON of an event with one choice; `usage`, also JSON, replaces the frame's null."""
        tail = self._tail if usage is None else self._tail.replace(_NO_USAGE, b'"usage":' + usage)
        return b"".join((self._head, b'"choices":[', msgspec.json.encode(choice), b"]", tail))
