"""One call of a tool at the beginning of a text that grows: its name, its arguments, and where it ends.

A call ends where its JSON does, so that a marker inside an argument is part of the argument.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from headmix_server.text.tools.formats import Shape
from headmix_server.text.tools.json_span import JsonSpan, NotJsonError

_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_NAME = re.compile(r"\s*([^\s\[{]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
_NAME_SO_FAR = re.compile(r"\s*[^\s\[{]*\s*(?:\[[^{]*)?\Z")
_ARGUMENTS = ("arguments", "parameters")
_SPACE = re.compile(r"\s*")


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)


class NotACallError(ValueError):
    """The text is no call, whatever follows."""


class Call:
    """A call whose text is given anew as it grows; it begins at the text's first character or after `prefix`."""

    def __init__(self, shape: Shape, prefix: re.Pattern[str] = _SPACE) -> None:
        self._shape = shape
        self._prefix = prefix
        self._whole: JsonSpan | None = None
        self._inner: JsonSpan | None = None
        self._inner_end: int | None = None
        self._broken_at: int | None = None
        self._reported = 0
        self.name: str | None = None
        self.arguments: str | None = None

    def end(self, text: str) -> int | None:
        """Return where the call ends, or None if the text does not reach that far.

        Then `name` and `arguments` are those of the call; the name may be known earlier.

        Raises:
            NotACallError: it is none.
        """
        try:
            return self._end_of_name(text) if self._shape == "named" else self._end_of_object(text)
        except NotJsonError as error:
            self._broken_at = error.place
            raise NotACallError(str(error)) from error

    def more_arguments(self, text: str) -> str:
        """Return what of the arguments was not returned before; only once the name is known.

        Of arguments that turned out not to be JSON, that is what could still have been.
        """
        if self._inner is None:
            written, self._reported = ("" if self._reported else self.arguments or ""), 1
            return written
        start, self._reported = max(self._reported, self._inner.start), self._inner_end or self._broken_at or len(text)
        return text[start : self._reported]

    def _end_of_name(self, text: str) -> int | None:
        if self._inner is None:
            found = _NAME.match(text)
            if found is None:
                if _NAME_SO_FAR.match(text) is None:
                    raise NotACallError("no arguments follow the name")
                return None
            self.name, self._inner = found[1], JsonSpan(found.end())
        self._inner_end = self._inner_end or self._inner.end(text)
        if self._inner_end is not None and self.arguments is None:
            self.arguments = _object_text(text[self._inner.start : self._inner_end])
        return self._inner_end

    def _end_of_object(self, text: str) -> int | None:
        if self._whole is None:
            found = self._prefix.match(text)
            start = 0 if found is None else found.end()
            if start == len(text):
                return None
            if text[start] != "{":
                raise NotACallError("no object follows")
            self._whole = JsonSpan(start)
        self._look_inside(text, self._whole.start)
        end = self._whole.end(text)
        if end is not None and self.arguments is None:
            self.name, self.arguments = _members(text[self._whole.start : end])
        return end

    def _look_inside(self, text: str, start: int) -> None:
        """Find the name and the arguments of an object that is not complete, if they come in the usual order."""
        if self._inner is None and (found := _HEAD.match(text, start)) is not None:
            self.name, self._inner = found[1], JsonSpan(found.end())
        if self._inner is not None and self._inner_end is None:
            self._inner_end = self._inner.end(text)


def _members(text: str) -> tuple[str, str]:
    """Return the name and the arguments of a complete object, the latter as they were written."""
    found: dict[str, tuple[Any, str]] = {}
    try:
        place = _skipped(text, 1)
        while text[place] != "}":
            key, place = _DECODER.raw_decode(text, place)
            start = _skipped(text, _skipped(text, place) + 1)
            value, place = _DECODER.raw_decode(text, start)
            found[key] = (value, text[start:place])
            place = _skipped(text, place)
            place = _skipped(text, place + 1) if text[place] == "," else place
    except (ValueError, IndexError, RecursionError) as error:
        raise NotACallError("the call is not JSON") from error
    name = found.get("name", (None, ""))[0]
    arguments, written = next((found[key] for key in _ARGUMENTS if key in found), (None, ""))
    if not isinstance(name, str) or not is_name(name):
        raise NotACallError("the call has no name")
    if isinstance(arguments, str):
        return name, _object_text(arguments)
    return name, "{}" if arguments is None else _object_text(written)


def _object_text(text: str) -> str:
    """Return an object's text as it is; only line breaks inside strings, which JSON does not allow, are escaped."""
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotACallError("the arguments are not JSON") from error
    if not isinstance(value, dict):
        raise NotACallError("the arguments are not an object")
    try:
        json.loads(text)
        text.encode()
    except ValueError:
        return written(value)
    return text


def is_name(text: str) -> bool:
    """Return whether a text may be the name of a tool."""
    return bool(text) and text.isprintable()


def written(arguments: Mapping[str, object]) -> str:
    """Return arguments as JSON that can be sent, even with half of a surrogate pair in it."""
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(arguments)
    return text


def _skipped(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()
