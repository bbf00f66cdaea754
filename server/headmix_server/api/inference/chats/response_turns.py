"""A response's input as the messages of a chat: what an assistant reasoned, said and called is one message there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.response_input import (
    CallItem,
    CallOutputItem,
    InputItem,
    InputMessage,
    ReasoningItem,
)


@dataclass(slots=True)
class _Assistant:
    """An assistant's message while its items are collected."""

    reasoning: list[str] = field(default_factory=list)
    said: InputMessage | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_said(self) -> bool:
        """Whether reasoning or a text that follows belongs to another message."""
        return self.said is not None or bool(self.calls)

    def message(self) -> Iterator[ChatMessage]:
        """Yield the message, unless nothing is in it."""
        reasoning = "".join(self.reasoning)
        if self.is_said or reasoning:
            yield ChatMessage.model_validate(
                {
                    "role": "assistant",
                    "content": "" if self.said is None else self.said.text,
                    "name": None if self.said is None else self.said.name,
                    "reasoning_content": reasoning or None,
                    "tool_calls": self.calls or None,
                }
            )


def turns_of(items: Sequence[InputItem]) -> Iterator[ChatMessage]:
    """Yield the items as a chat's messages."""
    assistant = _Assistant()
    for item in items:
        is_own = isinstance(item, ReasoningItem) or (isinstance(item, InputMessage) and item.role == "assistant")
        if (is_own and assistant.is_said) or not (is_own or isinstance(item, CallItem)):
            yield from assistant.message()
            assistant = _Assistant()
        match item:
            case ReasoningItem():
                assistant.reasoning.append(item.text)
            case CallItem():
                function = {"name": item.name, "arguments": item.arguments}
                assistant.calls.append({"id": item.call_id, "type": "function", "function": function})
            case CallOutputItem():
                yield ChatMessage(role="tool", content=item.text, tool_call_id=item.call_id)
            case InputMessage(role="assistant"):
                assistant.said = item
            case _:
                yield item
    yield from assistant.message()
