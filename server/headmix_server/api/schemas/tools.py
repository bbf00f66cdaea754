"""The tools of a chat and the choice among them, in OpenAI's shape; and the calls and results in its messages."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from headmix_server.api.schemas.body import RequestBody, shown, unsupported
from headmix_server.api.schemas.common import Text

MAX_TOOLS = 128
MAX_TOOL_BYTES = 256 * 1024
"""Of all tools together, as JSON."""

MAX_DEPTH = 64
"""Of lists and objects in tools."""

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def _require_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError("a name has 1 to 64 letters, digits, underscores, dots and dashes (ASCII)")
    return name


ToolName = Annotated[str, AfterValidator(_require_name)]


class FunctionTool(RequestBody):
    """A function: its arguments fit the JSON schema `parameters`; without it, it takes none."""

    drops_null: ClassVar[bool] = True

    name: ToolName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(None, description="Calls fit `parameters`, whatever `tool_choice` is.")

    @model_validator(mode="after")
    def _require_object(self) -> "FunctionTool":
        if self.parameters is not None and self.parameters.get("type", "object") != "object":
            raise ValueError('the parameters of a function are of the type "object"')
        return self


ONLY_FUNCTIONS = "Tools of the type {} are not supported, only functions are."
ONLY_A_FUNCTION = "A choice of the type {} is not supported, only of a function."


def require_function(given: object, refusal: str) -> object:
    """Refuse tools and choices of other types by name, before their other fields are looked at."""
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise unsupported("type", refusal.format(shown(kind)))
    return given


class Tool(RequestBody):
    """A tool that the model may call."""

    drops_null: ClassVar[bool] = True

    type: Literal["function"]
    function: FunctionTool

    @model_validator(mode="before")
    @classmethod
    def _require_function(cls, tool: object) -> object:
        return require_function(tool, ONLY_FUNCTIONS)


def require_bounds(tools: object) -> object:
    """Look at numbers and sizes before anything else does."""
    if not isinstance(tools, list):
        return tools
    if len(tools) > MAX_TOOLS:
        raise ValueError(f"at most {MAX_TOOLS} tools are taken, not {len(tools)}")
    if _depth_exceeds(tools, MAX_DEPTH):
        raise ValueError(f"the tools are nested more than {MAX_DEPTH} levels deep")
    try:
        size = len(json.dumps(tools, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        raise ValueError("a text in the tools holds half of a surrogate pair") from None
    if size > MAX_TOOL_BYTES:
        raise ValueError(f"the tools may have {MAX_TOOL_BYTES:,} bytes as JSON, not {size:,}")
    return tools


def _depth_exceeds(value: object, depth: int) -> bool:
    """Return whether there are lists and objects below so many levels, without recursion."""
    level: list[object] = [value]
    for _ in range(depth):
        level = [entry for container in level for entry in _entries(container) if isinstance(entry, dict | list)]
        if not level:
            return False
    return True


def _entries(container: object) -> Iterable[object]:
    return container.values() if isinstance(container, dict) else container if isinstance(container, list) else ()


def require_different(names: Sequence[str]) -> None:
    """Refuse two tools of one name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two tools have the name {shown(twice)}")


def _require_different_names(tools: list[Tool]) -> list[Tool]:
    require_different([tool.function.name for tool in tools])
    return tools


Tools = Annotated[
    list[Tool], Field(fail_fast=True), BeforeValidator(require_bounds), AfterValidator(_require_different_names)
]


class NamedFunction(RequestBody):
    """The name of one of the tools."""

    name: Text


class NamedTool(RequestBody):
    """The one tool that is called."""

    type: Literal["function"]
    function: NamedFunction

    @model_validator(mode="before")
    @classmethod
    def _require_function(cls, choice: object) -> object:
        return require_function(choice, ONLY_A_FUNCTION)


_WORD, _NAMED = "<word>", "<named>"

ChoiceWord = Annotated[Literal["none", "auto", "required"], Tag(_WORD)]
NAMED_CHOICE = Tag(_NAMED)


def word_or_named(shape: str) -> Discriminator:
    """Return what tells a word from a named tool, whose `shape` the error of anything else shows."""
    return Discriminator(
        _kind_of_choice,
        custom_error_type="tool_choice_shape",
        custom_error_message=f'Input should be "none", "auto", "required" or {shape}',
    )


def _kind_of_choice(choice: object) -> str | None:
    return _WORD if isinstance(choice, str) else _NAMED if isinstance(choice, dict | RequestBody) else None


ToolChoice = Annotated[
    ChoiceWord | Annotated[NamedTool, NAMED_CHOICE],
    word_or_named('a function: {{"type": "function", "function": {{"name": ...}}}}'),
]


class FunctionCall(RequestBody):
    """A function's name, and its arguments as a JSON text."""

    drops_null: ClassVar[bool] = True

    name: Text
    arguments: Text


class MessageToolCall(RequestBody):
    """A call in an assistant's message, as it was answered; `index` is what streams add."""

    drops_null: ClassVar[bool] = True

    id: Text
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Annotated[Any, AfterValidator(lambda _: None)] = Field(None, exclude=True)
