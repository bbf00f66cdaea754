"""OpenAI's older names: `functions` of a row, `function_call` of an answer and role `function`, as tools."""

from collections.abc import Mapping
from typing import Any

from headmix_adapters.train.data.fields import holds_something, shown
from headmix_adapters.train.errors import DataError


def has_functions(fields: Mapping[str, Any]) -> bool:
    """Return whether a row of messages has one of the older names."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        return False
    return holds_something(fields.get("functions")) or any(isinstance(one, dict) and _is_older(one) for one in messages)


def with_tools(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's fields with `tools`, `tool_calls` and role `tool` in place of the older names.

    Raises:
        DataError: it has both, or `functions` is not a list.
    """
    renamed = {name: value for name, value in fields.items() if name != "functions"}
    renamed["messages"] = [
        _message(f"{where}: messages[{number}]", one) if isinstance(one, dict) else one
        for number, one in enumerate(fields["messages"])
    ]
    functions = fields.get("functions")
    if not holds_something(functions):
        return renamed
    if holds_something(fields.get("tools")):
        raise DataError(f"{where}: functions and tools are two names of one thing; give one of them")
    if not isinstance(functions, list):
        raise DataError(f"{where}: functions is {shown(functions)}, not a list")
    return renamed | {"tools": [{"type": "function", "function": function} for function in functions]}


def _is_older(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "function" or holds_something(message.get("function_call"))


def _message(where: str, given: dict[str, Any]) -> dict[str, Any]:
    if not _is_older(given):
        return given
    message = {name: value for name, value in given.items() if name != "function_call"}
    if holds_something(call := given.get("function_call")):
        if holds_something(given.get("tool_calls")):
            raise DataError(f"{where}: function_call and tool_calls are two names of one thing; give one of them")
        message["tool_calls"] = [{"type": "function", "function": call}]
    return message | ({"role": "tool"} if given.get("role") == "function" else {})
