"""The grammar of tool calls: whatever a random walk writes is calls of the tools, in the model's own format."""

import json
import random
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from harness.bases.base_folder import write_base_folder
from harness.bases.tool_templates import HERMES as HERMES_TEMPLATE
from harness.bases.tool_templates import LLAMA as LLAMA_TEMPLATE
from harness.bases.tool_templates import MISTRAL as MISTRAL_LIST_TEMPLATE
from harness.bases.tool_templates import MISTRAL_COMPACT
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.core.grammar import GrammarError
from headmix_server.engine.fake_runner import allowed_tokens
from headmix_server.text.detokenize import Detokenizer
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.limits import MAX_CHARACTERS, MAX_TOOL_CHARACTERS
from headmix_server.text.grammars.tool_calls import arguments_schema
from headmix_server.text.grammars.wanted import JsonText, ToolCalls, ToolSchema
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.tools.formats import FORMATS, HERMES, LLAMA, MISTRAL, MISTRAL_LIST, ToolFormat
from headmix_server.text.tools.reader import ToolReader
from tests.server.text.tools.read import Read, read

SPECIAL = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")
SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rom"]}, "days": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city"],
    },
    "now": {},
    "pair": {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/point"}, "to": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]}},
        "required": ["at", "to"],
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}},
    },
}
TOOLS = tuple(ToolSchema(name, schema) for name, schema in SCHEMAS.items())
TEMPLATES = dict(
    zip(
        [one.name for one in FORMATS],
        [HERMES_TEMPLATE, LLAMA_TEMPLATE, MISTRAL_LIST_TEMPLATE, MISTRAL_COMPACT],
        strict=True,
    )
)
by_format = pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)


@pytest.fixture(scope="module", params=[(), SPECIAL], ids=["plain", "special"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A base in which the formats' markers are plain text, or special tokens."""
    return load_tokenizer(write_base_folder(tmp_path_factory.mktemp("base"), special_tokens=request.param))


@pytest.fixture(scope="module")
def compiler(base: Tokenizer) -> TokenCompiler:
    return TokenCompiler(lambda: base, base.vocab_size, base.eos_ids)


def special(base: Tokenizer) -> dict[str, int]:
    found = {marker: base.token_id(marker) for marker in SPECIAL}
    return {marker: number for marker, number in found.items() if number is not None}


def wanted(base: Tokenizer, format_: ToolFormat, **options: Any) -> ToolCalls:
    tokens = tuple((marker, number) for marker, number in special(base).items() if marker in format_.markers)
    usual: dict[str, Any] = {"format": format_, "tools": TOOLS, "required": True, "several": True, "tokens": tokens}
    return ToolCalls(**usual | options)


def walk(
    compiler: TokenCompiler, base: Tokenizer, grammar: str, seed: int, longest: int = 600
) -> tuple[list[str], bool]:
    """Take allowed tokens by chance; return the text piece by piece, and whether it is complete."""
    matcher, chance = compiler.compile(grammar, None), random.Random(seed)
    shown = Detokenizer(base, (), {number: marker for marker, number in special(base).items()})
    pieces = []
    for _ in range(longest):
        token = chance.choice(allowed_tokens(matcher.allowed()))
        if token not in base.eos_ids:
            pieces.append(shown.push([token]))
        if matcher.advance(token):
            return [*pieces, shown.flush()], True
    return pieces, False


def check(format_: ToolFormat, pieces: list[str]) -> Read:
    """Read an answer as it arrives and at once; every call must be of a tool, and fit."""
    known = frozenset(SCHEMAS)
    found = read(ToolReader(format_, known, eager=True), pieces)
    assert found == read(ToolReader(format_, known, eager=True), ["".join(pieces)])
    assert found == read(ToolReader(format_, known), ["".join(pieces)])
    for name, arguments in found.calls:
        jsonschema_rs.validate(SCHEMAS[name] or {"type": "object"}, json.loads(arguments))
        assert name != "now" or arguments == "{}"
    return found


@by_format
def test_every_answer_is_calls_that_fit(compiler: TokenCompiler, base: Tokenizer, format_: ToolFormat) -> None:
    grammar = write_grammar(wanted(base, format_))
    names = set()
    for seed in range(25):
        pieces, complete = walk(compiler, base, grammar, seed)
        found = check(format_, pieces)
        if complete:
            assert found.calls
            assert (found.content, found.cut) == ("", False)
            names |= {name for name, _ in found.calls}
    assert names == set(SCHEMAS)


@by_format
def test_without_parallel_calls_there_is_one(compiler: TokenCompiler, base: Tokenizer, format_: ToolFormat) -> None:
    grammar = write_grammar(wanted(base, format_, several=False))
    ended = [check(format_, pieces) for pieces, done in (walk(compiler, base, grammar, n) for n in range(10)) if done]
    assert ended
    assert all(len(found.calls) == 1 for found in ended)


@by_format
def test_calls_that_are_not_required_follow_a_free_text(
    compiler: TokenCompiler, base: Tokenizer, format_: ToolFormat
) -> None:
    matcher = compiler.compile(write_grammar(wanted(base, format_, required=False)), None)
    for token in base.encode("Well, {", add_special_tokens=False):
        assert not matcher.advance(token)
    assert set(base.eos_ids) <= set(allowed_tokens(matcher.allowed()))
    assert any(matcher.copy().advance(token) for token in base.eos_ids)
    if format_.trigger is None:
        return
    for token in base.encode(format_.opening + format_.before + "weather" + format_.middle, add_special_tokens=False):
        assert not matcher.advance(token)
    assert {base.decode([token])[:1] for token in allowed_tokens(matcher.allowed())} == {"{"}


@by_format
def test_a_call_sent_back_is_the_text_that_was_generated(
    compiler: TokenCompiler, base: Tokenizer, format_: ToolFormat
) -> None:
    grammar = write_grammar(wanted(base, format_))
    for seed in range(25):
        pieces, complete = walk(compiler, base, grammar, seed)
        if not complete:
            continue
        calls = [
            {"id": "abcdefghi", "type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in check(format_, pieces).calls
        ]
        turns: list[dict[str, Any]] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": calls},
        ]
        rendered = ChatTemplate(TEMPLATES[format_.name], {}).render(turns)
        assert "".join(pieces) in rendered.replace(', "id": "abcdefghi"', "")


def test_a_text_may_be_bound_to_a_schema_beside_calls(compiler: TokenCompiler, base: Tokenizer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for format_ in (HERMES, MISTRAL, MISTRAL_LIST):
        grammar = write_grammar(wanted(base, format_, required=False, otherwise=JsonText(schema, None)))
        kinds = set()
        for seed in range(20):
            pieces, complete = walk(compiler, base, grammar, seed)
            found = check(format_, pieces)
            if complete:
                kinds.add(bool(found.calls))
                assert found.calls or jsonschema_rs.is_valid(schema, json.loads(found.content))
        assert kinds == {False, True}
    with pytest.raises(GrammarError, match="cannot be told"):
        write_grammar(wanted(base, LLAMA, required=False, otherwise=JsonText(schema)))


@pytest.mark.parametrize("schema", [{"not": {}}, {"properties": {"a": {"type": "array", "uniqueItems": True}}}])
def test_parameters_that_cannot_be_enforced_are_refused_with_the_tools_name(schema: dict[str, Any]) -> None:
    tools = (*TOOLS, ToolSchema("bad", {**schema, "x-guidance": {"lenient": True}}))
    with pytest.raises(GrammarError, match="'bad'"):
        write_grammar(ToolCalls(HERMES, tools, required=True, several=True))


def test_tools_that_are_too_large_together_are_refused() -> None:
    many = tuple(ToolSchema(f"t{n}", {"properties": {"a": {"const": "x" * 50_000}}}) for n in range(6))
    with pytest.raises(GrammarError, match=f"{MAX_TOOL_CHARACTERS:,}"):
        write_grammar(ToolCalls(HERMES, many, required=True, several=True))
    one = ToolSchema("large", {"properties": {"a": {"const": "x" * MAX_CHARACTERS}}})
    with pytest.raises(GrammarError, match=f"'large': the schema may have {MAX_CHARACTERS:,}"):
        write_grammar(ToolCalls(HERMES, (one,), required=True, several=True))


def test_many_tools_with_long_descriptions_fit(compiler: TokenCompiler, base: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"description": {"enum": ["a"], "description": "x" * 2000}}}
    many = tuple(ToolSchema(f"tool_{n}", {**schema, "required": ["description"]}) for n in range(128))
    pieces, complete = walk(compiler, base, write_grammar(wanted(base, HERMES, tools=many, several=False)), 1)
    assert complete
    assert '"arguments": {"description": "a"}' in "".join(pieces)


def test_listed_properties_close_an_object_unless_it_says_otherwise_or_combines_schemas() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "object", "properties": {}}}}
    closed = arguments_schema({"properties": {"a": inner}})
    assert closed["additionalProperties"] is False
    assert closed["properties"]["a"]["additionalProperties"] is False
    assert closed["properties"]["a"]["properties"]["b"]["additionalProperties"] is False
    assert "additionalProperties" not in arguments_schema({"type": "object"})
    assert arguments_schema({})["additionalProperties"] is False
    for open_one in ({"properties": {}, "additionalProperties": True}, {"properties": {"a": {}}, "allOf": [{}]}):
        assert arguments_schema(open_one) == {"type": "object", **open_one}


def test_the_format_may_be_spelt_differently(compiler: TokenCompiler, base: Tokenizer) -> None:
    tight = replace(MISTRAL_LIST, opening="[TOOL_CALLS][")
    pieces, _ = walk(compiler, base, write_grammar(wanted(base, tight)), 0)
    assert "".join(pieces).startswith("[TOOL_CALLS][{")
    check(tight, pieces)
