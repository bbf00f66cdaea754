"""The tools of a chat and the calls of them, in OpenAI's form, as a chat template reads them.

Owns their form only: templates, and not this module, decide how they look in a prompt. A call's arguments are JSON text
on the wire and an object in a template; data may have either.
"""

from collections.abc import Sequence
from typing import Any

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.train.data.fields import holds_something, shown
from headmix_adapters.train.errors import DataError

_CALL_FIELDS = frozenset({"id", "type", "function", "index"})
_FUNCTION = "function"


def read_tools(where: str, value: object) -> list[dict[str, Any]]:
    """Return a row's `tools`.

    Raises:
        DataError: one of them is not a function with a name; its place is named.
    """
    return [_tool(f"{where}: tools[{place}]", given) for place, given in enumerate(_list(f"{where}: tools", value))]


def read_calls(where: str, value: object) -> list[dict[str, Any]]:
    """Return a message's `tool_calls`, each with its arguments as an object.

    Raises:
        DataError: one of them is not the call of a function with arguments; its place is named.
    """
    given = _list(f"{where}: tool_calls", value)
    return [_call(f"{where}: tool_calls[{place}]", one) for place, one in enumerate(given)]


def check_parallel_calls(where: str, value: object, called: Sequence[Sequence[str]]) -> None:
    """Make sure that the answers, each with the functions it calls, keep to a row's `parallel_tool_calls`.

    Raises:
        DataError: it is not true or false, or it is false and an answer calls several functions.
    """
    if not isinstance(value, bool):
        raise DataError(f"{where}: parallel_tool_calls is {shown(value)}, but must be true or false")
    if not value and any(len(names) > 1 for names in called):
        raise DataError(f"{where}: parallel_tool_calls is false, but an answer calls several functions at once")


def _list(where: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where} is {shown(value)}, not a list")
    return value


def _tool(where: str, given: object) -> dict[str, Any]:
    function = given.get(_FUNCTION) if isinstance(given, dict) else None
    if not isinstance(given, dict) or given.get("type") != _FUNCTION or not isinstance(function, dict):
        raise DataError(f"{where} is not an object with type function and a function")
    _name(where, function)
    return given


def _call(where: str, given: object) -> dict[str, Any]:
    function = given.get(_FUNCTION) if isinstance(given, dict) else None
    if not isinstance(given, dict) or given.get("type", _FUNCTION) != _FUNCTION or not isinstance(function, dict):
        raise DataError(f"{where} is not an object with a function")
    unknown = [name for name, one in given.items() if name not in _CALL_FIELDS and holds_something(one)]
    unknown += [name for name in function if name not in ("name", "arguments")]
    if unknown:
        raise DataError(f"{where}: field {shown(unknown[0])} is not read")
    call = {"type": _FUNCTION, _FUNCTION: {"name": _name(where, function), "arguments": _arguments(where, function)}}
    return ({"id": given["id"]} if isinstance(given.get("id"), str) else {}) | call


def _name(where: str, function: dict[str, Any]) -> str:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: function.name is {shown(name)}, not a name")
    return name


def _arguments(where: str, function: dict[str, Any]) -> dict[str, Any]:
    value = function.get("arguments")
    if isinstance(value, str):
        try:
            value = parse_strict(value.encode())
        except ValueError as error:
            raise DataError(f"{where}: function.arguments is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: function.arguments is {shown(value)}, not an object")
    return value
