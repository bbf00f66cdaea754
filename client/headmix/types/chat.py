"""Owns the types of a chat: messages and chat completions, whole and streamed."""

from headmix.types.result import Part, Result, Usage


class ChatMessage(Part):
    """One turn; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str | None = None


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
    """One generated message; `finish_reason` is `stop` or `length`."""

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


class ChatDelta(Part):
    """The part of a message that is new since the previous chunk."""

    role: str | None = None
    content: str | None = None


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
