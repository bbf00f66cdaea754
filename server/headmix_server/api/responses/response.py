"""A job's output as a response, whole or as the typed events of a stream."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from headmix_server.api.inference.generation_job import Job
from headmix_server.api.responses.chunks import FunctionDelta, MessageDelta
from headmix_server.api.responses.message import PLAIN, MessageWriter, Writers
from headmix_server.api.responses.output_items import Change, OutputItems
from headmix_server.api.responses.scores import chat_scores
from headmix_server.api.responses.sse import Ending, Event, Events, NamedEvent
from headmix_server.api.responses.whole import JsonList
from headmix_server.api.schemas.response_tools import ResponseNamedTool
from headmix_server.api.schemas.responses import (
    IncompleteDetails,
    InputTokensDetails,
    ResponseFailure,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
)
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.types import FinishReason
from headmix_server.text.completion import Delta

_OUTPUT = b'"output":[]'
_ECHOED = ("temperature", "top_p", "top_logprobs", "parallel_tool_calls")


@dataclass(slots=True)
class _Progress:
    """What was generated so far."""

    writer: MessageWriter
    items: OutputItems = field(default_factory=OutputItems)
    tokens: int = 0
    status: str = "in_progress"
    waiting: JsonList = field(default_factory=JsonList)
    """The log-probabilities of tokens whose text is not certain yet."""

    def add(self, delta: Delta, scores: JsonList) -> Iterator[Change]:
        """Add a delta of the job, and yield the changes.

        Only text has log-probabilities, as in OpenAI's responses: those of calls are left out.
        """
        self.tokens += delta.num_tokens
        self.waiting.append(scores)
        for piece in self.writer.add(delta):
            yield from self._add(piece)
        if self.writer.is_plain and self.waiting:
            yield from self._add_text("")
        if delta.finish_reason is not None:
            self.status = "incomplete" if delta.finish_reason is FinishReason.LENGTH else "completed"
            if not self.items.has_any:
                yield from self.items.add_text("", JsonList())
            yield from self.items.end(self.status)

    def _add_text(self, text: str) -> Iterator[Change]:
        scores, self.waiting = self.waiting, JsonList()
        yield from self.items.add_text(text, scores)

    def _add(self, piece: MessageDelta) -> Iterator[Change]:
        if piece.content:
            yield from self._add_text(piece.content)
        else:
            self.waiting = JsonList()
        if piece.reasoning_content:
            yield from self.items.add_reasoning(piece.reasoning_content)
        for call in piece.tool_calls:
            function = call.function or FunctionDelta()
            if call.id is not None:
                yield from self.items.begin_call(call.id, function.name or "")
            yield from self.items.add_arguments(function.arguments or "")


@dataclass(frozen=True, slots=True)
class ResponseAnswer:
    """The response bodies of one request. The events of a stream are numbered.

    `writers` makes what turns the text into a message, as that of a chat.
    """

    job: Job
    request: ResponsesRequest
    writers: Writers = PLAIN
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _numbers: "count[int]" = field(default_factory=count)

    async def whole(self) -> list[bytes]:
        """Return the complete response as JSON in pieces; raises as `Job.run`."""
        progress = _Progress(self.writers())
        async with aclosing(self.job.run()) as deltas:
            async for _, delta in deltas:
                for _ in progress.add(delta, await self._scores(delta)):
                    pass
        return self._pieces(progress.status, progress.items.pieces(), progress.tokens)

    async def events(self) -> Events:
        """Yield a stream's events; raises as `Job.run`."""
        progress, has_begun = _Progress(self.writers()), False
        async with aclosing(self.job.run()) as deltas:
            async for _, delta in deltas:
                if not has_begun:
                    has_begun = True
                    for name in ("created", "in_progress"):
                        yield self._lifecycle(name, self._pieces("in_progress", [b"[]"]))
                for change, fields in progress.add(delta, await self._scores(delta)):
                    yield self._event(change, **fields)
        yield self._lifecycle(progress.status, self._pieces(progress.status, progress.items.pieces(), progress.tokens))

    @property
    def ending(self) -> Ending:
        """How its stream ends: after the last event nothing follows."""
        return Ending(b"", self._failed)

    def _failed(self, error: HeadmixServerError) -> Event:
        failure = ResponseFailure(code="server_error", message=error.message)
        response = self._body("failed").model_copy(update={"error": failure})
        return self._lifecycle("failed", [response.model_dump_json().encode()])

    def _lifecycle(self, name: str, response: Sequence[bytes]) -> NamedEvent:
        return self._event(name, response=msgspec.Raw(b"".join(response)))

    def _event(self, name: str, /, **fields: object) -> NamedEvent:
        kind = f"response.{name}"
        return NamedEvent(kind, msgspec.json.encode({"type": kind, "sequence_number": next(self._numbers), **fields}))

    def _pieces(self, status: str, output: Sequence[bytes], tokens: int | None = None) -> list[bytes]:
        """Return the response with this output; the field comes before all whose JSON may look like it."""
        head, tail = self._body(status, tokens).model_dump_json().encode().split(_OUTPUT, 1)
        return [head, b'"output":', *output, tail]

    def _body(self, status: str, tokens: int | None = None) -> ResponseObject:
        asked = self.request
        given: dict[str, Any] = {name: value for name in _ECHOED if (value := getattr(asked, name)) is not None}
        return ResponseObject.model_validate(
            {
                "id": self.id,
                "created_at": self.created,
                "status": status,
                "output": [],
                "incomplete_details": IncompleteDetails(reason="max_output_tokens") if status == "incomplete" else None,
                "model": asked.model,
                "usage": None if tokens is None else self._usage(tokens),
                "instructions": asked.instructions,
                "max_output_tokens": asked.max_output_tokens,
                "text": {"format": _format(asked)},
                "tools": [tool.model_dump(exclude_none=True) for tool in asked.tools or ()],
                "tool_choice": _choice(asked),
                "metadata": asked.metadata or {},
                "user": asked.user,
                **given,
            }
        )

    def _usage(self, tokens: int) -> ResponseUsage:
        usage = self.job.usage(tokens)
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.prompt_tokens_details.cached_tokens),
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )

    async def _scores(self, delta: Delta) -> JsonList:
        return await chat_scores(self.job.tokenizer, delta.logprobs) if self.request.wants_logprobs else JsonList()


def _format(asked: ResponsesRequest) -> dict[str, object]:
    given = None if asked.text is None else asked.text.format
    return {"type": "text"} if given is None else given.model_dump(by_alias=True, exclude_none=True)


def _choice(asked: ResponsesRequest) -> object:
    choice = asked.tool_choice
    return choice.model_dump() if isinstance(choice, ResponseNamedTool) else choice or "auto"
