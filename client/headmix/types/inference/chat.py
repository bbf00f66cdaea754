"""Owns the types of a chat: messages and chat completions, whole and streamed."""

from collections.abc import Iterable

from headmix.types.result import Part, Result, Usage


class CalledFunction(Part):
    """The function that is called, and its arguments as a JSON text."""

    name: str = ""
    arguments: str = ""


class ToolCall(Part):
    """A call that the model made. Answer it with a turn of the role `tool` that has its `id` as `tool_call_id`."""

    id: str
    function: CalledFunction
    type: str = "function"


class ChatMessage(Part):
    """One turn; `role` is `system`, `user`, `assistant` or `tool`.

    `content` is None if the model only called tools. `tool_call_id` says which call a `tool` turn answers.
    """

    role: str
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None


class TopLogprob(Part):
    """A candidate token at one position."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class TokenLogprob(TopLogprob):
    """The chosen token at one position, and the best candidates."""

    top_logprobs: tuple[TopLogprob, ...] = ()


class ChatLogprobs(Part):
    """The log probabilities of the message's tokens."""

    content: tuple[TokenLogprob, ...] | None = None


class ChatChoice(Part):
    """One generated message; `finish_reason` is `stop`, `length` or `tool_calls`."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Result):
    """The response of POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The first choice's text."""
        return (self.choices[0].message.content or "") if self.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls in the first choice."""
        return (self.choices[0].message.tool_calls or ()) if self.choices else ()


class ToolCallDelta(Part):
    """The new part of the call with this `index`: first its id and name, then its arguments, piece by piece."""

    index: int
    id: str | None = None
    type: str | None = None
    function: CalledFunction = CalledFunction()


class ChatDelta(Part):
    """The part of a message that is new since the previous chunk."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] | None = None


class ChatChunkChoice(Part):
    """The new part of one choice; `finish_reason` is None before the last chunk."""

    index: int
    delta: ChatDelta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatChunk(Result):
    """One event of a streamed chat completion."""

    id: str
    created: int
    model: str
    choices: tuple[ChatChunkChoice, ...]
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The first choice's new text."""
        return (self.choices[0].delta.content or "") if self.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCallDelta, ...]:
        """What is new of the first choice's calls; `joined_calls` puts them together."""
        return (self.choices[0].delta.tool_calls or ()) if self.choices else ()


def joined_calls(parts: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Return the calls whose parts arrived in a stream."""
    calls: dict[int, ToolCall] = {}
    for part in parts:
        before = calls.get(part.index, ToolCall(id="", function=CalledFunction()))
        function = CalledFunction(
            name=before.function.name + part.function.name,
            arguments=before.function.arguments + part.function.arguments,
        )
        calls[part.index] = ToolCall(id=before.id or part.id or "", function=function)
    return tuple(calls[index] for index in sorted(calls))
