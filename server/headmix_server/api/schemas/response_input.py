"""The items of a response's input: what was said so far, calls of tools and their results.

A message is one of a chat, with the fields that OpenAI adds when it returns one. Items of other types belong to tools
that run on OpenAI's servers, or refer to something stored there, and are refused by name.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from headmix_server.api.schemas.body import RequestBody, shown, unsupported
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.messages import ChatMessage, Content, Ignored

_TEXT, _ITEMS = "<text>", "<items>"
_TYPES = ("message", "function_call", "function_call_output", "reasoning")


class InputMessage(ChatMessage):
    """A message; of another response's message, `id`, `status` and `phase` have no effect."""

    role: Literal["system", "developer", "user", "assistant"]
    type: Literal["message"] | None = None
    status: Ignored = None
    phase: Ignored = None


class CallItem(RequestBody):
    """A call that the model made: the function's name, and its arguments as a JSON text."""

    drops_null: ClassVar[bool] = True

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    id: Ignored = None
    status: Ignored = None


class CallOutputItem(RequestBody):
    """The result of a call."""

    drops_null: ClassVar[bool] = True

    type: Literal["function_call_output"]
    call_id: Text
    output: Content
    id: Ignored = None
    status: Ignored = None

    @property
    def text(self) -> str:
        """The result as one text."""
        return self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)


class ReasoningText(RequestBody):
    """A part of what the model reasoned."""

    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(RequestBody):
    """What the model reasoned before the item that follows; summaries, which only OpenAI writes, have no effect."""

    drops_null: ClassVar[bool] = True

    type: Literal["reasoning"]
    content: Annotated[list[ReasoningText], Field(fail_fast=True)] | None = None
    summary: Ignored = None
    id: Ignored = None
    status: Ignored = None

    @property
    def text(self) -> str:
        """All of it as one text."""
        return "".join(part.text for part in self.content or ())


def _require_known(item: object) -> object:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "item_reference":
        raise unsupported("type", "This server stores no items: send the item instead of a reference to it.")
    if isinstance(kind, str) and kind not in _TYPES:
        raise unsupported("type", f"Items of the type {shown(kind)} are not supported.")
    return item


def _kind_of_item(item: object) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return f"<{kind}>" if kind in _TYPES else "<message>"


InputItem = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[CallOutputItem, Tag("<function_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")],
    Discriminator(_kind_of_item),
    BeforeValidator(_require_known),
]


def parts_of(item: InputItem) -> object:
    """Return the content of an item, which may be a list of parts."""
    match item:
        case InputMessage() | ReasoningItem():
            return item.content
        case CallOutputItem():
            return item.output
        case CallItem():
            return None


def _kind(given: object) -> str | None:
    return _TEXT if isinstance(given, str) else _ITEMS if isinstance(given, list) else None


ResponseInput = Annotated[
    Annotated[Text, Tag(_TEXT)] | Annotated[list[InputItem], Field(min_length=1, fail_fast=True), Tag(_ITEMS)],
    Discriminator(
        _kind,
        custom_error_type="input_shape",
        custom_error_message="Input should be a text or a list of items",
    ),
]
"""A text of the user, or a list of items."""
