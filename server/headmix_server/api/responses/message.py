"""One choice's message as it is generated: its text and the calls in it, in OpenAI's shape.

A whole response is joined from the very pieces that a stream sends, so both say the same.
"""

import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from headmix_server.api.responses.chunks import (
    AnswerCall,
    AnswerFunction,
    AnswerMessage,
    CallDelta,
    FunctionDelta,
    MessageDelta,
)
from headmix_server.core.types import FinishReason
from headmix_server.text.completion import Delta
from headmix_server.text.tools.parts import AnswerReader, Argued, Called, Part, Said, Thought

TOOL_CALLS = "tool_calls"
_LETTERS = string.ascii_letters + string.digits


class MessageWriter:
    """Turns what a choice gains into pieces of its message. Without a `reader`, all of it is text.

    Ids of calls have `id_length` characters; by default they look like OpenAI's.
    """

    def __init__(self, reader: AnswerReader | None, id_length: int | None = None) -> None:
        self._reader = reader
        self._id_length = id_length
        self._num_calls = 0
        self._has_text = False

    @property
    def is_plain(self) -> bool:
        """Whether all it gets is text."""
        return self._reader is None

    @property
    def begins(self) -> MessageDelta:
        """What the first event of a stream says; a message that may call tools may have no content."""
        return MessageDelta(role="assistant", content="" if self._reader is None else None)

    def add(self, delta: Delta) -> list[MessageDelta]:
        """Return what the delta adds; nothing if it only adds tokens."""
        if self._reader is None:
            return [MessageDelta(content=delta.text)] if delta.text else []
        parts = [*self._reader.push(delta.text)]
        if delta.finish_reason is not None:
            parts += self._reader.end()
        pieces = [self._piece(part) for part in parts]
        if delta.finish_reason is not None and not (self._num_calls or self._has_text):
            pieces.append(MessageDelta(content=""))
        return pieces

    def reason(self, reason: FinishReason) -> str:
        """Return why the message ended: `tool_calls` if it is complete and its reader is to call tools."""
        complete = reason is FinishReason.STOP and self._reader is not None and not self._reader.cut
        return TOOL_CALLS if complete and self._num_calls else reason.value

    def _piece(self, part: Part) -> MessageDelta:
        match part:
            case Said(text):
                self._has_text = True
                return MessageDelta(content=text)
            case Thought(text):
                return MessageDelta(reasoning_content=text)
            case Called(name):
                function = FunctionDelta(name=name, arguments="")
                call = CallDelta(index=self._num_calls, id=self._new_id(), type="function", function=function)
                self._num_calls += 1
                return MessageDelta(tool_calls=(call,))
            case Argued(text):
                return MessageDelta(
                    tool_calls=(CallDelta(index=self._num_calls - 1, function=FunctionDelta(arguments=text)),)
                )

    def _new_id(self) -> str:
        if self._id_length is None:
            return f"call_{secrets.token_hex(12)}"
        return "".join(secrets.choice(_LETTERS) for _ in range(self._id_length))


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WholeMessage:
    """The pieces of a message, joined."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)

    def add(self, pieces: Sequence[MessageDelta]) -> None:
        """Append pieces."""
        for piece in pieces:
            self.texts += [] if piece.content is None else [piece.content]
            self.thoughts += [] if piece.reasoning_content is None else [piece.reasoning_content]
            for call in piece.tool_calls:
                self._add_call(call)

    def _add_call(self, call: CallDelta) -> None:
        function = call.function or FunctionDelta()
        if call.id is not None:
            self.calls.append(_Call(call.id, function.name or ""))
        self.calls[call.index].arguments.append(function.arguments or "")

    @property
    def message(self) -> AnswerMessage:
        """The message; its content is null if it has calls and no text."""
        text = "".join(self.texts)
        calls = tuple(AnswerCall(one.id, AnswerFunction(one.name, "".join(one.arguments))) for one in self.calls)
        return AnswerMessage(
            content=text if text or not calls else None,
            reasoning_content="".join(self.thoughts) or msgspec.UNSET,
            tool_calls=calls or msgspec.UNSET,
        )


Writers = Callable[[], MessageWriter]
"""Makes the writer of a choice."""


def _plain() -> MessageWriter:
    return MessageWriter(None)


PLAIN: Writers = _plain
"""All of a choice is text."""
