"""Answers and the events of streams as bytes: what surrounds the choices is written once, the choices for each event.

A stream has one event per token, and building and dumping a pydantic model for each is a tenth of the API process's
work at full load. The schemas stay the definition: the frame is one of their dumps, and tests hold each choice against
them.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from pydantic import BaseModel

_CHOICES = b'"choices":[]'
_NO_USAGE = b'"usage":null'

SLOT = msgspec.Raw(b"\0")
"""Stands for a part that is put in later; nothing in JSON is written as this byte."""


class TextChoice(msgspec.Struct, frozen=True):
    """`schemas.completions.CompletionChoice` as an event of a stream has it; `logprobs` is JSON."""

    index: int
    text: str
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None = None


class MessageDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`schemas.chat.ChatDelta`: what adds nothing is left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class MessageChoice(msgspec.Struct, frozen=True):
    """`schemas.chat.ChatChunkChoice` as an event of a stream has it; `logprobs` is JSON."""

    index: int
    delta: MessageDelta
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None = None


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`schemas.chat.AssistantMessage`."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class AnswerChoice(msgspec.Struct, frozen=True):
    """`schemas.chat.ChatChoice`; `logprobs` is JSON."""

    index: int
    message: AnswerMessage
    logprobs: msgspec.Raw | None
    finish_reason: str


class ChunkFrame:
    """The bytes before and after the choices of an answer, or of every event of a stream.

    `without_choices` is the body, its list of choices empty; `exclude` are fields that are left out.
    """

    def __init__(self, without_choices: BaseModel, exclude: set[str] | None = None) -> None:
        # A quotation mark inside a string is escaped, so the key is found once, whatever the model is called.
        self._head, self._tail = without_choices.model_dump_json(exclude=exclude).encode().split(_CHOICES)

    def whole(
        self, choices: Sequence[TextChoice] | Sequence[AnswerChoice], scores: Sequence[Sequence[bytes]] = ()
    ) -> list[bytes]:
        """Return the JSON of an answer with these choices, in pieces; `scores` go where `logprobs` is `SLOT`."""
        around = msgspec.json.encode(choices).split(bytes(SLOT))
        pieces = [self._head, b'"choices":', around[0]]
        for score, after in zip(scores, around[1:], strict=True):
            pieces += score
            pieces.append(after)
        return [*pieces, self._tail]

    def event(self, choice: TextChoice | MessageChoice, usage: bytes | None = None) -> bytes:
        """Return the JSON of an event with one choice; `usage`, JSON too, takes the place of the frame's null."""
        tail = self._tail if usage is None else self._tail.replace(_NO_USAGE, b'"usage":' + usage)
        return b"".join((self._head, b'"choices":[', msgspec.json.encode(choice), b"]", tail))
