"""From what a client wants to one grammar in the library's form, checked.

Nothing is enforced more weakly than it was asked for: what the library does not implement is refused by name. Formats
of strings are enforced as shapes (docs/api.md). Knows no vocabulary, so special tokens are checked by the compiler.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from llguidance import LLMatcher, StructTag
from llguidance.gbnf_to_lark import any_to_lark

from headmix_server.core.grammar import GrammarError
from headmix_server.text.grammars.large_numbers import with_exact_numbers
from headmix_server.text.grammars.limits import MAX_CHARACTERS, MAX_CHOICES, MAX_TOOL_CHARACTERS, parser_limits
from headmix_server.text.grammars.tool_calls import arguments_schema, lark_of
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Language, TaggedText, ToolCalls, Wanted

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions


def write_grammar(wanted: Wanted) -> str:
    """Return the grammar of the texts that are wanted.

    Raises:
        GrammarError: it is faulty, too large, or cannot be enforced.
    """
    match wanted:
        case JsonText():
            return _json(wanted)
        case Expression(regex=regex):
            _check_size(regex, "the regular expression")
            return _checked(LLMatcher.grammar_from_regex(regex))
        case Choice():
            return _choice(wanted)
        case Language(grammar=grammar):
            return _language(grammar)
        case TaggedText():
            return _tagged(wanted)
        case ToolCalls():
            return _tool_calls(wanted)
        case _:
            assert_never(wanted)


def _json(wanted: JsonText) -> str:
    try:
        schema = with_exact_numbers(_as_object(wanted.schema))
        text = json.dumps(_closed(schema) if wanted.closed else schema)
    except RecursionError:
        raise GrammarError("the schema is nested too deeply") from None
    _check_size(text, "the schema")
    options: JsonCompileOptions = {"lenient": False, "coerce_one_of": False}
    if wanted.white_space is None:
        options["whitespace_flexible"] = False
    else:
        options["whitespace_pattern"] = wanted.white_space
    try:
        grammar = LLMatcher.grammar_from_json_schema(text, overrides=options)
    except ValueError as error:
        raise GrammarError(str(error)) from error
    return _checked(grammar)


def _choice(wanted: Choice) -> str:
    if not wanted.texts or len(wanted.texts) > MAX_CHOICES or not all(wanted.texts):
        raise GrammarError(f"1 to {MAX_CHOICES:,} choices are taken, none of them empty")
    _check_size("".join(wanted.texts), "the choices")
    alternatives = " | ".join(json.dumps(text, ensure_ascii=False) for text in wanted.texts)
    return _checked(LLMatcher.grammar_from_lark(f"start: {alternatives}"))


def _language(grammar: str) -> str:
    _check_size(grammar, "the grammar")
    try:
        lark = any_to_lark(grammar)
    except RecursionError:
        raise GrammarError("it is nested too deeply") from None
    except Exception as error:  # the library raises nothing narrower for an unknown rule
        raise GrammarError(str(error)) from error
    return _checked(LLMatcher.grammar_from_lark(lark))


def _tagged(wanted: TaggedText) -> str:
    if not wanted.structures:
        raise GrammarError("there is no structure")
    tags = []
    for part in wanted.structures:
        trigger = next((trigger for trigger in wanted.triggers if trigger and part.begin.startswith(trigger)), None)
        if trigger is None:
            raise GrammarError(f"no trigger begins the structure {part.begin!r}")
        _json(JsonText(part.schema))  # so that its faults are told as a schema's
        schema = with_exact_numbers(_as_object(part.schema))
        tags.append(StructTag(trigger=trigger, begin=part.begin, grammar=schema, end=part.end))
    _check_size("".join(f"{part.begin}{part.end}{json.dumps(part.schema)}" for part in wanted.structures), "structures")
    return _checked(StructTag.to_grammar(tags))


def _tool_calls(wanted: ToolCalls) -> str:
    if wanted.format.trigger is None and wanted.otherwise is not None:
        raise GrammarError(f"calls in the format of {wanted.format.name} cannot be told from another JSON text")
    for tool in wanted.tools:  # each by itself, so that its faults are told as its own
        try:
            _json(JsonText(arguments_schema(tool.schema), None))
        except GrammarError as error:
            raise GrammarError(f"the parameters of the tool {tool.name!r}: {error}") from error
    if wanted.otherwise is not None:
        _json(wanted.otherwise)
    lark = lark_of(_with_exact_numbers(wanted))
    _check_size(lark, "the tools' grammar", MAX_TOOL_CHARACTERS)
    return _checked(LLMatcher.grammar_from_lark(lark))


def _with_exact_numbers(wanted: ToolCalls) -> ToolCalls:
    tools = tuple(replace(tool, schema=with_exact_numbers(tool.schema)) for tool in wanted.tools)
    form = wanted.otherwise
    return replace(
        wanted,
        tools=tools,
        otherwise=None if form is None else replace(form, schema=with_exact_numbers(form.schema)),
    )


def _checked(grammar: str) -> str:
    faulty, reasons = LLMatcher.validate_grammar_with_warnings(grammar, None, limits=parser_limits())
    if faulty:
        raise GrammarError("; ".join(reasons).removesuffix("\n<non-verbose/>"))
    return grammar


def _check_size(text: str, what: str, most: int = MAX_CHARACTERS) -> None:
    if len(text) > most:
        raise GrammarError(f"{what} may have {most:,} characters, not {len(text):,}")


def _as_object(schema: Mapping[str, Any] | bool) -> Mapping[str, Any]:
    """Return a schema as the object that the library takes: `true` is any JSON.

    Raises:
        GrammarError: it is `false`, which nothing fits.
    """
    if schema is False:
        raise GrammarError("no JSON fits the schema false")
    return {} if schema is True else schema


def _closed(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the schema with `additionalProperties: false` wherever an object's properties are listed."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping):
        closed.setdefault("additionalProperties", False)
    return closed
