"""The output items of a response as they are generated, and the stream events that describe them.

A whole response has the same items as the last event of a stream. Messages, calls and reasoning follow each other in
any order: a new item ends the one before it.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from headmix_server.api.responses.chunks import SLOT
from headmix_server.api.responses.whole import JsonList

Change = tuple[str, Mapping[str, object]]
"""An event's name, without `response.`, and its fields except for those that every event has."""

_NONE = msgspec.Raw(b"[]")
_FIRST = {"content_index": 0}


class _Item(Protocol):
    """An item that is being generated."""

    id: str

    def json(self, status: str, logprobs: msgspec.Raw) -> Mapping[str, object]:
        """Return the item; `logprobs` stands where a message has them."""

    def begun(self) -> Iterator[Change]:
        """Yield what follows on its first event."""

    def ended(self) -> Iterator[Change]:
        """Yield what precedes its last event."""


@dataclass(slots=True)
class _Message:
    """`schemas.responses.OutputMessage`."""

    texts: list[str] = field(default_factory=list)
    logprobs: JsonList = field(default_factory=JsonList)
    id: str = field(default_factory=lambda: _new_id("msg"))

    def json(self, status: str, logprobs: msgspec.Raw) -> Mapping[str, object]:
        content = [] if status == "in_progress" else [self._part(logprobs)]
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def begun(self) -> Iterator[Change]:
        yield "content_part.added", {**_FIRST, "part": self._part(_NONE)}

    def ended(self) -> Iterator[Change]:
        logprobs = self.logprobs.json()
        yield "output_text.done", {**_FIRST, "text": "".join(self.texts), "logprobs": logprobs}
        yield "content_part.done", {**_FIRST, "part": self._part(logprobs)}

    def _part(self, logprobs: msgspec.Raw) -> Mapping[str, object]:
        return {"type": "output_text", "text": "".join(self.texts), "annotations": [], "logprobs": logprobs}


@dataclass(slots=True)
class _Call:
    """`schemas.responses.OutputCall`."""

    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: _new_id("fc"))

    def json(self, status: str, logprobs: msgspec.Raw) -> Mapping[str, object]:
        arguments = "".join(self.arguments)
        called = {"call_id": self.call_id, "name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function_call", "status": status, **called}

    def begun(self) -> Iterator[Change]:
        yield from ()

    def ended(self) -> Iterator[Change]:
        yield "function_call_arguments.done", {"name": self.name, "arguments": "".join(self.arguments)}


@dataclass(slots=True)
class _Thought:
    """`schemas.responses.OutputReasoning`."""

    texts: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: _new_id("rs"))

    def json(self, status: str, logprobs: msgspec.Raw) -> Mapping[str, object]:
        content = [] if status == "in_progress" else [self._part]
        return {"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content}

    def begun(self) -> Iterator[Change]:
        yield "content_part.added", {**_FIRST, "part": self._part}

    def ended(self) -> Iterator[Change]:
        yield "reasoning_text.done", {**_FIRST, "text": "".join(self.texts)}
        yield "content_part.done", {**_FIRST, "part": self._part}

    @property
    def _part(self) -> Mapping[str, object]:
        return {"type": "reasoning_text", "text": "".join(self.texts)}


class OutputItems:
    """The items of one response. Every method yields the changes that it makes."""

    def __init__(self) -> None:
        self._ended: list[tuple[_Item, str]] = []
        self._open: _Item | None = None

    def add_text(self, text: str, scores: JsonList) -> Iterator[Change]:
        """Add text to a message, with its tokens' log-probabilities."""
        message = self._open
        if not isinstance(message, _Message):
            message = _Message()
            yield from self._begin(message)
        message.texts.append(text)
        message.logprobs.append(scores)
        if text or scores:
            yield self._placed("output_text.delta", {**_FIRST, "delta": text, "logprobs": scores.json()})

    def add_reasoning(self, text: str) -> Iterator[Change]:
        """Add text to the model's reasoning."""
        thought = self._open
        if not isinstance(thought, _Thought):
            thought = _Thought()
            yield from self._begin(thought)
        thought.texts.append(text)
        yield self._placed("reasoning_text.delta", {**_FIRST, "delta": text})

    def begin_call(self, call_id: str, name: str) -> Iterator[Change]:
        """Begin a call."""
        yield from self._begin(_Call(call_id, name))

    def add_arguments(self, text: str) -> Iterator[Change]:
        """Add text to the current call's arguments."""
        if isinstance(self._open, _Call) and text:
            self._open.arguments.append(text)
            yield self._placed("function_call_arguments.delta", {"delta": text})

    def end(self, status: str) -> Iterator[Change]:
        """End the last item."""
        item = self._open
        if item is None:
            return
        for name, fields in item.ended():
            yield self._placed(name, fields)
        logprobs = item.logprobs.json() if isinstance(item, _Message) else _NONE
        yield "output_item.done", {"output_index": len(self._ended), "item": item.json(status, logprobs)}
        self._ended.append((item, status))
        self._open = None

    @property
    def has_any(self) -> bool:
        """Whether there is an item."""
        return self._open is not None or bool(self._ended)

    def pieces(self) -> list[bytes]:
        """Return the ended items as JSON in pieces."""
        around = msgspec.json.encode([item.json(status, SLOT) for item, status in self._ended]).split(bytes(SLOT))
        scores = [item.logprobs for item, _ in self._ended if isinstance(item, _Message)]
        pieces = [around[0]]
        for logprobs, behind in zip(scores, around[1:], strict=True):
            pieces += [*logprobs.pieces(), behind]
        return pieces

    def _begin(self, item: _Item) -> Iterator[Change]:
        yield from self.end("completed")
        self._open = item
        yield "output_item.added", {"output_index": len(self._ended), "item": item.json("in_progress", _NONE)}
        for name, fields in item.begun():
            yield self._placed(name, fields)

    def _placed(self, name: str, fields: Mapping[str, object]) -> Change:
        item_id = "" if self._open is None else self._open.id
        return name, {"item_id": item_id, "output_index": len(self._ended), **fields}


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(24)}"
