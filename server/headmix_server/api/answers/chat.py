"""A job as a chat completion."""

import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from headmix_server.api.answers.chunks import ChunkFrame, MessageChoice, MessageDelta, json_of
from headmix_server.api.answers.continuous_usage import ContinuousUsage
from headmix_server.api.generation import Delta, PlacedLogprob
from headmix_server.api.job import Job
from headmix_server.api.logprobs import chat_logprobs
from headmix_server.api.schemas.chat import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
)
from headmix_server.api.schemas.common import GenerationUsage
from headmix_server.api.sse import Events
from headmix_server.core.types import FinishReason


@dataclass(slots=True)
class _Message:
    """One answer while it is gathered."""

    text: str = ""
    logprobs: list[PlacedLogprob] = field(default_factory=list)
    reason: FinishReason = FinishReason.LENGTH


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The bodies of one request."""

    job: Job
    request: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> ChatCompletion:
        """Return everything at once; raises as `Job.run`."""
        messages = [_Message() for _ in range(self.job.choices)]
        tokens = 0
        async with aclosing(self.job.run()) as deltas:
            async for index, delta in deltas:
                tokens += delta.num_tokens
                message = messages[index]
                message.text += delta.text
                message.logprobs.extend(delta.logprobs)
                message.reason = delta.finish_reason or message.reason
        choices = [
            ChatChoice(
                index=index,
                message=AssistantMessage(content=message.text),
                logprobs=self._logprobs(message.logprobs),
                finish_reason=message.reason.value,
            )
            for index, message in enumerate(messages)
        ]
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.request.model,
            choices=choices,
            usage=self.job.usage(tokens),
        )

    async def events(self) -> Events:
        """Yield the events of a stream: the role, the text as it comes, the reason of the end; raises as `Job.run`."""
        begun: set[int] = set()
        frame = ChunkFrame(self._chunk([]), None if self.request.include_usage else {"usage"})
        usage = ContinuousUsage(self.job, wanted=self.request.continuous_usage)
        async with aclosing(self.job.run()) as deltas:
            async for index, delta in deltas:
                if index not in begun:
                    begun.add(index)
                    yield frame.event(MessageChoice(index, MessageDelta(role="assistant", content="")), usage.of(index))
                usage.add(index, delta.num_tokens)
                for choice in self._choices(index, delta):
                    yield frame.event(choice, usage.of(index))
        if self.request.include_usage:
            yield self._chunk([], usage=self.job.usage(usage.total)).model_dump_json()

    def _choices(self, index: int, delta: Delta) -> list[MessageChoice]:
        """Return what the delta adds to an answer; the reason of the end stands alone, as in OpenAI's streams."""
        choices = []
        if delta.text or delta.logprobs:
            logprobs = json_of(self._logprobs(delta.logprobs))
            choices.append(MessageChoice(index, MessageDelta(content=delta.text), logprobs))
        if delta.finish_reason is not None:
            choices.append(MessageChoice(index, MessageDelta(), finish_reason=delta.finish_reason.value))
        return choices

    def _chunk(self, choices: list[ChatChunkChoice], usage: GenerationUsage | None = None) -> ChatChunk:
        return ChatChunk(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)

    def _logprobs(self, entries: tuple[PlacedLogprob, ...] | list[PlacedLogprob]) -> ChatLogprobs | None:
        return chat_logprobs(self.job.tokenizer, entries) if self.request.logprobs else None
