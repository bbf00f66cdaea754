"""ShareGPT's `conversations` of `from` and `value` as messages of role and content."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.train.data.fields import LEARNT, Fields, holds_something, shown
from headmix_adapters.train.errors import DataError

_ROLES: Mapping[str, str] = MappingProxyType(
    {"system": "system", "function_call": "assistant"}
    | dict.fromkeys(("human", "user"), "user")
    | dict.fromkeys(("gpt", "assistant", "chatgpt", "model"), "assistant")
    | dict.fromkeys(("tool", "observation", "function_response"), "tool")
)


def has_conversations(fields: Mapping[str, Any]) -> bool:
    """Return whether a row has a conversation in this form."""
    return holds_something(fields.get("conversations"))


def with_messages(where: str, fields: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """Return a row's fields with `messages` in place of `conversations`, and of a `system` beside them.

    Entries of role and content are messages already.

    Raises:
        DataError: an entry is not understood in full; its place is named.
    """
    given = fields["conversations"]
    if not isinstance(given, list):
        raise DataError(f"{where}: conversations is {shown(given)}, not a list")
    messages = [_message(f"{where}: conversations[{number}]", entry, ignored) for number, entry in enumerate(given)]
    if "system" not in ignored and holds_something(system := fields.get("system")):
        messages.insert(0, {"role": "system", "content": system})
    rest = {name: value for name, value in fields.items() if name not in ("conversations", "messages", "system")}
    return {"messages": messages} | rest


def _message(where: str, entry: object, ignored: Collection[str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise DataError(f"{where} is not an object with from and value")
    if "role" in entry:
        return entry
    fields = Fields(where, entry, LEARNT | {"from", "value"}, ignored)
    role = fields.value("from")
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where}: from {shown(role)} is not one of {', '.join(_ROLES)}")
    marks = {name: entry[name] for name in sorted(LEARNT) if name in fields}
    if role == "function_call":
        return {"role": "assistant", "tool_calls": _calls(where, fields.text("value"))} | marks
    return {"role": _ROLES[role], "content": fields.value("value")} | marks


def _calls(where: str, text: str) -> list[dict[str, Any]]:
    """Return the calls in an entry's text: one object of name and arguments, or a list of them."""
    try:
        value = parse_strict(text.encode())
    except ValueError as error:
        raise DataError(f"{where}: value is not the JSON of a call: {error}") from error
    return [{"type": "function", "function": call} for call in (value if isinstance(value, list) else [value])]
