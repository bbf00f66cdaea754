"""A job's output as a chat completion."""

import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from headmix_server.api.inference.generation_job import Job
from headmix_server.api.responses.chunks import (
    SLOT,
    AnswerChoice,
    AnswerMessage,
    ChunkFrame,
    MessageChoice,
    MessageDelta,
)
from headmix_server.api.responses.continuous_usage import ContinuousUsage
from headmix_server.api.responses.scores import chat_scores
from headmix_server.api.responses.sse import Events
from headmix_server.api.responses.whole import JsonList, json_object, object_pieces
from headmix_server.api.schemas.chat import (
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatRequest,
)
from headmix_server.api.schemas.common import GenerationUsage
from headmix_server.core.types import FinishReason
from headmix_server.text.completion import Delta


@dataclass(slots=True)
class _Message:
    """One choice's message while it is collected."""

    texts: list[str] = field(default_factory=list)
    logprobs: JsonList = field(default_factory=JsonList)
    reason: FinishReason = FinishReason.LENGTH

    def add(self, delta: Delta, logprobs: JsonList) -> None:
        self.texts.append(delta.text)
        self.reason = delta.finish_reason or self.reason
        self.logprobs.append(logprobs)

    def choice(self, index: int, *, scored: bool) -> AnswerChoice:
        message = AnswerMessage(content="".join(self.texts))
        return AnswerChoice(index, message, SLOT if scored else None, self.reason.value)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The response bodies of one request."""

    job: Job
    request: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> list[bytes]:
        """Return the complete response as JSON in pieces; raises as `Job.run`."""
        messages = [_Message() for _ in range(self.job.choices)]
        tokens = 0
        async with aclosing(self.job.run()) as deltas:
            async for index, delta in deltas:
                tokens += delta.num_tokens
                messages[index].add(delta, await self._scores(delta))
        scored = bool(self.request.logprobs)
        choices = [message.choice(index, scored=scored) for index, message in enumerate(messages)]
        body = ChatCompletion(
            id=self.id, created=self.created, model=self.request.model, choices=[], usage=self.job.usage(tokens)
        )
        scores = [object_pieces(content=message.logprobs, refusal=None) for message in messages if scored]
        return ChunkFrame(body).whole(choices, scores)

    async def events(self) -> Events:
        """Yield a stream's events: the role, the text as it arrives, the finish reason; raises as `Job.run`."""
        begun: set[int] = set()
        frame = ChunkFrame(self._chunk([]), None if self.request.include_usage else {"usage"})
        usage = ContinuousUsage(self.job, wanted=self.request.continuous_usage)
        async with aclosing(self.job.run()) as deltas:
            async for index, delta in deltas:
                if index not in begun:
                    begun.add(index)
                    yield frame.event(MessageChoice(index, MessageDelta(role="assistant", content="")), usage.of(index))
                usage.add(index, delta.num_tokens)
                for choice in self._choices(index, delta, await self._scores(delta)):
                    yield frame.event(choice, usage.of(index))
        if self.request.include_usage:
            yield self._chunk([], usage=self.job.usage(usage.total)).model_dump_json()

    def _choices(self, index: int, delta: Delta, scores: JsonList) -> list[MessageChoice]:
        """Return what the delta adds to a message; the finish reason comes separately, as in OpenAI's streams."""
        choices = []
        if delta.text or delta.logprobs:
            logprobs = json_object(content=scores, refusal=None) if self.request.logprobs else None
            choices.append(MessageChoice(index, MessageDelta(content=delta.text), logprobs))
        if delta.finish_reason is not None:
            choices.append(MessageChoice(index, MessageDelta(), finish_reason=delta.finish_reason.value))
        return choices

    def _chunk(self, choices: list[ChatChunkChoice], usage: GenerationUsage | None = None) -> ChatChunk:
        return ChatChunk(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)

    async def _scores(self, delta: Delta) -> JsonList:
        return await chat_scores(self.job.tokenizer, delta.logprobs) if self.request.logprobs else JsonList()
