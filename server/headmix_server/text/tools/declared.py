"""Answers in a format that a base declares in its `response_template`, read by transformers' own parser.

The one module that imports transformers in the API process: it takes a second, so `load` is called off the event loop,
and only where a base declares a format that is none of `formats`. A call is reported when it is complete.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headmix_server.text.tools.call import is_name, written
from headmix_server.text.tools.parts import Part, PartList

_TEXT, _THOUGHTS, _CALLS = "content", ("reasoning_content", "thinking", "reasoning"), "tool_calls"


class ResponseTemplateError(ValueError):
    """The base's `response_template` is faulty."""


class DeclaredFormat:
    """A base's `response_template`, checked."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        self._template = template

    def markers(self, tokens: Sequence[str]) -> tuple[str, ...]:
        """Return which of these tokens the template mentions."""
        mentioned = json.dumps(self._template, ensure_ascii=False).replace("\\", "")
        return tuple(token for token in tokens if token in mentioned)

    def reader(self, prompt: str, tools: Sequence[Mapping[str, object]]) -> "DeclaredReader":
        """Return the reader of an answer to a prompt, whose end may belong to the answer.

        Raises:
            ResponseTemplateError: the template is faulty.
        """
        from transformers.utils.chat_parsing import ResponseParser

        try:
            parser = ResponseParser(dict(self._template), prefix=prompt, tools=[dict(tool) for tool in tools])
        except (ValueError, KeyError, TypeError) as error:
            raise ResponseTemplateError(str(error)) from error
        return DeclaredReader(parser)


class DeclaredReader:
    """See `AnswerReader`."""

    def __init__(self, parser: Any) -> None:  # noqa: ANN401 - transformers has no types
        self._parser = parser
        self._found = PartList()
        self._unread = ""  # what was written since a call began
        self._is_in_call = False
        self._has_failed = False
        self.cut = False

    def push(self, text: str) -> list[Part]:
        """See `AnswerReader`."""
        if self._has_failed:
            self._found.say(text)
            return self._found.take()
        try:
            self._unread += text
            for event in self._parser.feed(text):
                self._take_in(event)
            self._unread = self._unread if self._is_in_call else ""
        except (ValueError, KeyError):
            self._fail()
        return self._found.take()

    def end(self) -> list[Part]:
        """See `AnswerReader`."""
        if not self._has_failed:
            try:
                for event in self._parser.finalize()[1]:
                    self._take_in(event)
            except (ValueError, KeyError):
                self._fail()
        return self._found.end()

    def _fail(self) -> None:
        """Show what is no call as text; what follows is text too, because the parser cannot go on."""
        self._has_failed = True
        if not self._found.num_calls:
            self._found.say(self._unread)

    def _take_in(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"type": "region_open", "field": field}:
                self._is_in_call = field == _CALLS
            case {"type": "region_chunk", "field": field, "text": str(text)} if field == _TEXT:
                self._found.say(text)
            case {"type": "region_chunk", "field": field, "text": str(text)} if field in _THOUGHTS:
                self._found.think(text)
            case {"type": "region_close", "field": field, "value": value} if field == _CALLS:
                for call in value if isinstance(value, list) else [value]:
                    self._call(call)
                self._is_in_call = False
            case {"type": "region_close", "field": field} if field in _THOUGHTS:
                self._found.trim()

    def _call(self, call: object) -> None:
        match call:
            case {"function": {"name": str(name), "arguments": dict(arguments)}} if is_name(name):
                self._found.call(name)
                self._found.argue(written(arguments))
            case _:
                raise ValueError("the call has no name or no arguments")


def load() -> None:
    """Import transformers' parser."""
    import transformers.utils.chat_parsing  # noqa: F401
