"""A job's output as a chat completion."""

import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from headmix_server.api.inference.generation_job import Job
from headmix_server.api.responses.chunks import SLOT, AnswerChoice, ChunkFrame, MessageChoice, MessageDelta
from headmix_server.api.responses.continuous_usage import ContinuousUsage
from headmix_server.api.responses.message import PLAIN, MessageWriter, WholeMessage, Writers
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

    writer: MessageWriter
    whole: WholeMessage = field(default_factory=WholeMessage)
    logprobs: JsonList = field(default_factory=JsonList)
    reason: str = FinishReason.LENGTH.value

    def add(self, delta: Delta, logprobs: JsonList) -> None:
        self.whole.add(self.writer.add(delta))
        if delta.finish_reason is not None:
            self.reason = self.writer.reason(delta.finish_reason)
        self.logprobs.append(logprobs)

    def choice(self, index: int, *, scored: bool) -> AnswerChoice:
        return AnswerChoice(index, self.whole.message, SLOT if scored else None, self.reason)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The response bodies of one request. `writers` makes what turns a choice's text into a message."""

    job: Job
    request: ChatRequest
    writers: Writers = PLAIN
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> list[bytes]:
        """Return the complete response as JSON in pieces; raises as `Job.run`."""
        messages = [_Message(self.writers()) for _ in range(self.job.choices)]
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
        writers: dict[int, MessageWriter] = {}
        frame = ChunkFrame(self._chunk([]), None if self.request.include_usage else {"usage"})
        usage = ContinuousUsage(self.job, wanted=self.request.continuous_usage)
        async with aclosing(self.job.run()) as deltas:
            async for index, delta in deltas:
                if index not in writers:
                    writers[index] = self.writers()
                    yield frame.event(MessageChoice(index, writers[index].begins), usage.of(index))
                usage.add(index, delta.num_tokens)
                for choice in self._choices(index, writers[index], delta, await self._scores(delta)):
                    yield frame.event(choice, usage.of(index))
        if self.request.include_usage:
            yield self._chunk([], usage=self.job.usage(usage.total)).model_dump_json()

    def _choices(self, index: int, writer: MessageWriter, delta: Delta, scores: JsonList) -> list[MessageChoice]:
        """Return what the delta adds to a message; the finish reason comes separately, as in OpenAI's streams.

        The tokens' scores are in the first event, or in one of their own if nothing else is certain yet.
        """
        pieces = writer.add(delta)
        if not pieces and delta.logprobs:
            pieces = [MessageDelta(content="" if writer.is_plain else None)]
        choices = []
        for place, piece in enumerate(pieces):
            scored = self.request.logprobs and place == 0
            choices.append(MessageChoice(index, piece, json_object(content=scores, refusal=None) if scored else None))
        if delta.finish_reason is not None:
            choices.append(MessageChoice(index, MessageDelta(), finish_reason=writer.reason(delta.finish_reason)))
        return choices

    def _chunk(self, choices: list[ChatChunkChoice], usage: GenerationUsage | None = None) -> ChatChunk:
        return ChatChunk(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)

    async def _scores(self, delta: Delta) -> JsonList:
        return await chat_scores(self.job.tokenizer, delta.logprobs) if self.request.logprobs else JsonList()
