"""Numbers that a double does not hold are bounded more narrowly or refused, never rounded in an answer."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from harness.bases.base_folder import write_base_folder
from harness.schemas.misfit import misfit
from headmix_server.core.grammar import GrammarError
from headmix_server.engine.fake_runner import allowed_tokens
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.large_numbers import EXACT, with_exact_numbers
from headmix_server.text.grammars.wanted import JsonText, Structure, TaggedText, ToolCalls, ToolSchema
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.tools.formats import HERMES

LARGE = (2**53 - 2, 2**53 + 1, 2**53 + 3, 2**62 + 1, 2**63 - 1, 2**63, 10**30, 1e17, 1e21)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_base_folder(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def compiler(base: Tokenizer) -> TokenCompiler:
    return TokenCompiler(lambda: base, base.vocab_size, base.eos_ids)


def texts(compiler: TokenCompiler, base: Tokenizer, schema: dict[str, Any]) -> Iterator[str]:
    """Yield texts of a schema, chosen by chance; none if it is refused."""
    try:
        start = compiler.compile(write_grammar(JsonText(schema, None)), None)
    except GrammarError:
        return
    for seed in range(8):
        matcher, chance, tokens = start.copy(), random.Random(seed), list[int]()
        for _ in range(60):
            tokens.append(chance.choice(allowed_tokens(matcher.allowed())))
            if matcher.advance(tokens[-1]):
                yield base.decode(tokens)
                break


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("number", LARGE)
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_no_text_is_beyond_its_bounds(
    compiler: TokenCompiler, base: Tokenizer, kind: str, number: float, sign: int
) -> None:
    near, far = sign * number, sign * (number + number / 10**6 + 5)
    low, high = sorted((near, far))
    for schema in (
        {"type": kind, "minimum": low, "maximum": high},
        {"type": kind, "exclusiveMinimum": low, "exclusiveMaximum": high},
        {"type": kind, "minimum": -abs(near), "maximum": abs(near)},
    ):
        for text in texts(compiler, base, schema):
            assert not misfit(schema, text), (schema, text)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**30, 1e21, 1e15 + 0.5])
def test_a_value_that_an_answer_must_have_is_refused_by_the_keywords_name(number: float) -> None:
    for schema in (
        {"const": number},
        {"enum": [1, {"a": [number]}]},
        {"type": "array", "items": {"multipleOf": number}},
    ):
        with pytest.raises(GrammarError, match=r'"(const|enum|multipleOf)"'):
            write_grammar(JsonText(schema))
        with pytest.raises(GrammarError, match=r'"(const|enum|multipleOf)"'):
            write_grammar(TaggedText((Structure("<a>", schema, "</a>"),), ("<a",)))


def test_bounds_of_a_tools_arguments_are_moved_and_values_refused() -> None:
    def calls(at: dict[str, Any]) -> ToolCalls:
        tool = ToolSchema("seek", {"type": "object", "properties": {"at": at}, "required": ["at"]})
        return ToolCalls(HERMES, (tool,), required=True, several=False)

    most = 2**53 + 3
    assert str(most) not in write_grammar(calls({"type": "integer", "maximum": most}))
    with pytest.raises(GrammarError, match=r"'seek'.*\"const\""):
        write_grammar(calls({"const": most}))


def test_a_step_too_small_to_see_is_refused() -> None:
    with pytest.raises(GrammarError, match='"multipleOf"'):
        write_grammar(JsonText({"type": "number", "multipleOf": 1.5e-300}))


@pytest.mark.parametrize("most", [2**63 - 1, 2**64 - 1, 2**31 - 1])
def test_usual_bounds_of_integers_stay_wide(compiler: TokenCompiler, most: int) -> None:
    grammar = write_grammar(JsonText({"type": "integer", "minimum": 0, "maximum": most}))
    bound = json.loads(grammar)["grammars"][0]["json_schema"]["maximum"]
    assert most * (1 - 1e-13) <= bound <= most
    compiler.compile(grammar, None)


def test_schemas_without_large_numbers_are_unchanged() -> None:
    schema = {"properties": {"minimum": {"type": "integer", "maximum": EXACT}}, "enum": [1.5, True, EXACT, "x"]}
    assert with_exact_numbers(schema) == schema
