"""The tools of a response and the choice among them: those of a chat, in the Responses API's flat shape."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from headmix_server.api.schemas.body import RequestBody
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.tools import (
    NAMED_CHOICE,
    ONLY_A_FUNCTION,
    ONLY_FUNCTIONS,
    ChoiceWord,
    FunctionTool,
    require_bounds,
    require_different,
    require_function,
    word_or_named,
)


class ResponseTool(FunctionTool):
    """A function that the model may call. Tools that run on OpenAI's servers are refused by name."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _require_function(cls, tool: object) -> object:
        return require_function(tool, ONLY_FUNCTIONS)


def _require_different_names(tools: list[ResponseTool]) -> list[ResponseTool]:
    require_different([tool.name for tool in tools])
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
        return require_function(choice, ONLY_A_FUNCTION)


ResponseToolChoice = Annotated[
    ChoiceWord | Annotated[ResponseNamedTool, NAMED_CHOICE],
    word_or_named('{{"type": "function", "name": ...}}'),
]


def as_chat_tool(tool: ResponseTool) -> dict[str, Any]:
    """Return the tool as a chat's."""
    function = tool.model_dump(exclude={"type"}, exclude_none=True)
    return {"type": "function", "function": function}
