"""The grammar of tool calls in a model's own format, in Lark: the format's literals, and each tool's JSON schema.

The arguments are written with the separators that chat templates use, so that a call that comes back as history is the
same tokens again. It checks nothing: `write` does.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from headmix_server.text.grammars.wanted import JsonText, ToolCalls, ToolSchema

_ARGUMENTS = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "lenient": False,
    "coerce_one_of": False,
}
_COMBINING = ("allOf", "oneOf", "if", "dependentSchemas", "unevaluatedProperties")
"""Where these occur, closing an object could leave nothing that fits."""

_DESCRIPTIONS = ("description", "title", "$comment")
_VALUES = ("enum", "const", "default", "examples")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose objects have schemas by name: a property may be called `description`."""


def lark_of(wanted: ToolCalls) -> str:
    """Return the grammar."""
    tokens = dict(wanted.tokens)
    calls = range(len(wanted.tools))
    any_call, any_first = (" | ".join(f"{rule}_{place}" for place in calls) for rule in ("call", "first"))
    between, closing = wanted.format.between, _literal(wanted.format.closing, tokens)
    more = f"({_literal(between, tokens)} call)*" if wanted.several and between is not None else ""
    rules = [
        "%llguidance {}",
        *_start(wanted, tokens),
        f"calls: first {more} {closing}",
        f"first: {any_first}",
        *(_rule("first", place, wanted, tokens) for place in calls),
    ]
    if more:
        rules += [f"call: {any_call}", *(_rule("call", place, wanted, tokens) for place in calls)]
    schemas = [f"arguments_{place}: %json {_schema(tool)}" for place, tool in enumerate(wanted.tools)]
    return "\n".join([*rules, *schemas, ""])


def _start(wanted: ToolCalls, tokens: Mapping[str, int]) -> list[str]:
    """Return the rules of the answer; `calls` is what follows the trigger."""
    trigger = wanted.format.trigger
    if trigger is None:
        if wanted.required:  # without the tag, which templates do not write in earlier calls
            return ["start: calls"]
        tag = next((f"<[{token}]>?" for token in tokens.values()), "")
        return ["start: TEXT? | announced", "TEXT: /[ \\n\\t]*[^{ \\n\\t](.|\\n)*/", f"announced: {tag} calls"]
    announced = f"announced: {_literal(trigger, tokens)} calls"
    if wanted.required:
        return ["start: announced", announced]
    if wanted.otherwise is not None:
        return ["start: announced | form", announced, f"form: %json {_form(wanted.otherwise)}"]
    text = "TEXT: /(.|\\n)*/"
    if trigger in tokens:
        return [f"start: TEXT ({_literal(trigger, tokens)} calls)?", text]
    return ["start: TEXT | head calls", text, f"head[lazy]: TEXT {_quoted(trigger)}"]


def _rule(rule: str, place: int, wanted: ToolCalls, tokens: Mapping[str, int]) -> str:
    """Return the rule of a call of one tool; the first call's has what begins the list, but not the trigger."""
    parts = wanted.format
    begins = f"{parts.before}{wanted.tools[place].name}{parts.middle}"
    if rule == "first":
        begins = f"{parts.opening}{begins}".removeprefix(parts.trigger or "")
    return f"{rule}_{place}: {_literal(begins, tokens)} arguments_{place} {_literal(parts.after, tokens)}"


def _literal(text: str, tokens: Mapping[str, int]) -> str:
    """Return a text as Lark; what is a special token is that token, whatever it is called."""
    if not tokens:
        return _quoted(text)
    pattern = "|".join(re.escape(marker) for marker in tokens)
    pieces = re.split(f"({pattern})", text)
    return " ".join(f"<[{tokens[piece]}]>" if piece in tokens else _quoted(piece) for piece in pieces if piece)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _form(form: JsonText) -> str:
    options: dict[str, object] = {"lenient": False, "coerce_one_of": False}
    if form.white_space is None:
        options["whitespace_flexible"] = False
    else:
        options["whitespace_pattern"] = form.white_space
    schema: Mapping[str, Any] = form.schema if isinstance(form.schema, Mapping) else {} if form.schema else {"not": {}}
    return json.dumps({**schema, "x-guidance": options})


def _schema(tool: ToolSchema) -> str:
    return json.dumps({**arguments_schema(tool.schema), "x-guidance": _ARGUMENTS})


def arguments_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool's `parameters` as they are enforced: an object without properties that are not listed.

    What fits it fits the schema as given. A tool without parameters takes the empty object. Descriptions, which the
    model reads in its prompt, are left out.
    """
    given: dict[str, Any] = {"type": "object", **(schema or {"properties": {}})}
    return _reduced(given, closes=not _mentions(given, _COMBINING))


def _reduced(schema: Mapping[str, Any], *, closes: bool) -> dict[str, Any]:
    kept = {key: _inner(key, value, closes=closes) for key, value in schema.items() if not _describes(key, value)}
    lists = isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and "anyOf" not in schema
    if closes and lists:
        kept.setdefault("additionalProperties", False)
    return kept


def _inner(key: str, value: Any, *, closes: bool) -> Any:  # noqa: ANN401 - JSON
    if key in _VALUES:
        return value
    if isinstance(value, list):
        return [_reduced(part, closes=closes) if isinstance(part, dict) else part for part in value]
    if not isinstance(value, dict):
        return value
    if key in _BY_NAME:
        return {name: _reduced(one, closes=closes) if isinstance(one, dict) else one for name, one in value.items()}
    return _reduced(value, closes=closes)


def _describes(key: str, value: object) -> bool:
    return key in _DESCRIPTIONS and isinstance(value, str)


def _mentions(schema: object, words: tuple[str, ...]) -> bool:
    if isinstance(schema, list):
        return any(_mentions(part, words) for part in schema)
    return isinstance(schema, Mapping) and any(key in words or _mentions(value, words) for key, value in schema.items())
