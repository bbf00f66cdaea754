"""The fields of a row: each is read, ignored because the recipe says so, or refused by name and line.

Owns the rules that all tasks share: which fields there are, what counts as text, and the two fields (`weight` and
`trainable`) with which data sets mark a row or message as not learned. Knows no tokens.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.train.errors import DataError

LEARNT = frozenset({"weight", "trainable"})
_OTHER_SEPARATORS = (";", "\t", "|")
_TOOLS = "tools belong to a row of messages, their calls to the assistant's messages and results to role tool"
_OLDER_TOOLS = "convert functions to tools, and function_call to tool_calls"
_CHOICE = "nothing is forced in training; the answer shows what to choose"
_REASONING = "reasoning cannot be learned apart from the answer"
_REASONS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("tools", "tool_calls", "tool_call_id"), _TOOLS)
    | dict.fromkeys(("functions", "function_call"), _OLDER_TOOLS)
    | {"tool_choice": _CHOICE, "parallel_tool_calls": _TOOLS}
    | dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _REASONING)
)
_OTHER_FORMS: Mapping[str, str] = MappingProxyType(
    {"instruction": "convert Alpaca's form to prompt and completion, or messages"}
)
_WISHES: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "weight": {"1": True, "1.0": True, "0": False, "0.0": False},
        "trainable": {"true": True, "1": True, "false": False, "0": False},
    }
)


class Fields:
    """The fields of one row, or of one message in it; every field must be known.

    Empty fields (null, an empty text or list) count as absent; the recipe asks to leave out the `ignored` ones. `where`
    names the row and message.

    Raises:
        DataError: a field is not among `known`.
    """

    def __init__(self, where: str, given: Mapping[str, Any], known: Collection[str], ignored: Collection[str]) -> None:
        self.where = where
        self._values = {name: value for name, value in given.items() if name not in ignored}
        for name, value in self._values.items():
            if name not in known and holds_something(value):
                raise DataError(f"{where}: {self._refusal(name, known)}")

    def __contains__(self, name: str) -> bool:
        """Return whether a field is present and not empty."""
        return holds_something(self._values.get(name))

    def value(self, name: str) -> object:
        """Return a required field."""
        if name not in self._values:
            present = ", ".join(quoted(other) for other in self._values) or "none"
            raise DataError(f"{self.where}: field {name} is missing (fields: {present})")
        return self._values[name]

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a text field; a whole number counts as its digits, as in CSV."""
        value = as_text(f"{self.where}: {name}", self.value(name))
        if not value and not empty:
            raise DataError(f"{self.where}: {name} is empty")
        return value

    def number(self, name: str) -> float:
        """Return a field that is a finite number, or one written as text."""
        return as_number(f"{self.where}: {name}", self.value(name))

    def learned(self) -> bool | None:
        """Return whether `weight` or `trainable` marks this as learned; None if neither is given."""
        wishes = {self._wish(name) for name in sorted(LEARNT) if name in self}
        if len(wishes) > 1:
            raise DataError(f"{self.where}: weight and trainable contradict each other")
        return next(iter(wishes), None)

    def _wish(self, name: str) -> bool:
        value = self._values[name]
        known = _WISHES[name]
        text = str(value).lower()
        if not isinstance(value, str | int | float) or text not in known:
            takes = "0 or 1" if name == "weight" else "true or false"
            raise DataError(f"{self.where}: {name} is {shown(value)}, but must be {takes}")
        return known[text]

    def _refusal(self, name: str, known: Collection[str]) -> str:
        if name in _OTHER_FORMS:
            return f"field {name!r} is not read: {_OTHER_FORMS[name]}"
        if any(separator in name for separator in _OTHER_SEPARATORS):
            return f"field {quoted(name)!r} is not read: the columns of CSV are separated by commas"
        reason = _REASONS.get(name, f"the fields read are {', '.join(sorted(known))}")
        return f"field {quoted(name)!r} is not supported ({reason}); ignore it with data.ignore (--ignore)"


def shown(value: object) -> str:
    """Return a value as it appears in a data file, made safe for an error message."""
    return quoted(json.dumps(value, ensure_ascii=False, default=str))


def holds_something(value: object) -> bool:
    """Return whether a value is not empty: null and an empty text, list or object are."""
    return value is not None and not (isinstance(value, str | list | dict) and not value)


def as_text(where: str, value: object) -> str:
    """Return a value that is a text, or a whole number as its digits.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where} is {shown(value)}, neither a text nor a whole number")


def as_number(where: str, value: object) -> float:
    """Return a value that is a finite number, or one written as text.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, str | int | float) and not isinstance(value, bool) and "_" not in str(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise DataError(f"{where} is {shown(value)}, not a finite number")


def left_out(fields: Mapping[str, Any], ignored: Collection[str]) -> Iterator[str]:
    """Yield the names of ignored fields that hold something, in a row or in a message of it."""
    if not ignored:
        return
    messages = fields.get("messages") or fields.get("conversations")
    for part in (fields, *(messages if isinstance(messages, list) else ())):
        if isinstance(part, Mapping):
            yield from (name for name in ignored if holds_something(part.get(name)))
