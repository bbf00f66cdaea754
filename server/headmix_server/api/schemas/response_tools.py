"""The tools of a response and the choice among them: those of a chat, in the Responses API's flat shape."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from headmix_server.api.schemas.body import RequestBody, shown, unsupported
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.tools import FunctionTool, require_bounds


class ResponseTool(FunctionTool):
    """A function that the model may call. Tools that run on OpenAI's servers are refused by name."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _require_function(cls, tool: object) -> object:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise unsupported("type", f"Tools of the type {shown(kind)} are not supported, only functions are.")
        return tool


def _require_different_names(tools: list[ResponseTool]) -> list[ResponseTool]:
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two tools have the name {shown(twice)}")
    return tools


ResponseTools = Annotated[
    list[ResponseTool],
    Field(fail_fast=True),
    BeforeValidator(require_bounds),
    AfterValidator(_require_different_names),
]


class ResponseNamedTool(RequestBody):
    """The one tool that is called."""

    type: Literal["function"]
    name: Text

    @model_validator(mode="before")
    @classmethod
    def _require_function(cls, choice: object) -> object:
        kind = choice.get("type") if isinstance(choice, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise unsupported("type", f"A choice of the type {shown(kind)} is not supported, only of a function.")
        return choice


_WORD, _NAMED = "<word>", "<named>"


def _kind(choice: object) -> str | None:
    return _WORD if isinstance(choice, str) else _NAMED if isinstance(choice, dict | ResponseNamedTool) else None


ResponseToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(_WORD)] | Annotated[ResponseNamedTool, Tag(_NAMED)],
    Discriminator(
        _kind,
        custom_error_type="tool_choice_shape",
        custom_error_message='Input should be "none", "auto", "required" or {{"type": "function", "name": ...}}',
    ),
]


def as_chat_tool(tool: ResponseTool) -> dict[str, Any]:
    """Return the tool as a chat's."""
    function = tool.model_dump(exclude={"type"}, exclude_none=True)
    return {"type": "function", "function": function}
