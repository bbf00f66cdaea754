"""Compiled grammars allow exactly the tokens that may come next, in the base's vocabulary and an adapter's."""

import json
import random
from pathlib import Path

import jsonschema_rs
import pytest

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from harness.bases.base_folder import write_base_folder
from headmix_server.core.grammar import GrammarError, Matcher
from headmix_server.core.types import AdapterRef
from headmix_server.engine.fake_runner import allowed_tokens
from headmix_server.llm.session import adapter_ref
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.wanted import (
    Choice,
    Expression,
    JsonText,
    Language,
    Structure,
    TaggedText,
    Wanted,
)
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer

GAP = 7
"""Embedding rows of the base beyond its tokenizer's tokens."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_base_folder(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def compiler(base: Tokenizer) -> TokenCompiler:
    return TokenCompiler(lambda: base, base.vocab_size + GAP, base.eos_ids)


def with_words(path: Path, words: tuple[str, ...]) -> AdapterRef:
    """Write an adapter that adds these words."""
    random_artifact(path, tiny_base_shape(), added_tokens=words)
    return adapter_ref(path)


def walk(matcher: Matcher, chance: random.Random, longest: int = 400) -> tuple[list[int], bool]:
    """Choose among the allowed tokens by chance; return the tokens, and whether the text was complete."""
    tokens: list[int] = []
    while len(tokens) < longest:
        token = chance.choice(allowed_tokens(matcher.allowed()))
        tokens.append(token)
        if matcher.advance(token):
            return tokens, True
    return tokens, False


@pytest.mark.parametrize(
    "wanted", [JsonText(PERSON), JsonText(PERSON, white_space=None), JsonText(PERSON, white_space=" ")]
)
def test_every_text_that_ends_fits_its_schema(compiler: TokenCompiler, base: Tokenizer, wanted: JsonText) -> None:
    grammar = write_grammar(wanted)
    ended = 0
    for seed in range(20):
        tokens, complete = walk(compiler.compile(grammar, None), random.Random(seed))
        if complete:
            ended += 1
            jsonschema_rs.validate(PERSON, json.loads(base.decode(tokens)))
    assert ended > 10


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            Choice(
                (
                    "yes",
                    'né "ja"\n',
                    "日本",
                )
            ),
            {"yes", 'né "ja"\n', "日本"},
        ),
        (Expression("(yes|no)!?"), {"yes", "no", "yes!", "no!"}),
        (Language('start: "a" ("b" | "c")'), {"ab", "ac"}),
        (Language('root ::= "a" ("b" | "c")'), {"ab", "ac"}),
    ],
)
def test_texts_are_those_of_the_grammar(
    compiler: TokenCompiler, base: Tokenizer, wanted: Wanted, expected: set[str]
) -> None:
    text = write_grammar(wanted)
    found = {base.decode(walk(compiler.compile(text, None), random.Random(seed))[0]) for seed in range(60)}
    assert found == expected


def test_a_structure_holds_what_its_schema_asks_for(compiler: TokenCompiler, base: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"x": {"const": 5}}, "required": ["x"], "additionalProperties": False}
    grammar = write_grammar(TaggedText((Structure("<fn=f>", schema, "</fn>"),), ("<fn=",)))
    matcher = compiler.compile(grammar, None)
    for token in base.encode('Well: <fn=f>{"x":', add_special_tokens=False):
        assert not matcher.advance(token)
    allowed = {base.decode([token]) for token in allowed_tokens(matcher.allowed())}
    assert any(text.strip().startswith("5") for text in allowed)
    assert not any(text.strip().startswith("6") for text in allowed)


def test_what_ends_a_text_is_allowed_at_its_end_only(compiler: TokenCompiler, base: Tokenizer) -> None:
    matcher = compiler.compile(write_grammar(Expression("a(bc)?")), None)
    ends = set(base.eos_ids)
    assert not ends & set(allowed_tokens(matcher.allowed()))
    for token in base.encode("a", add_special_tokens=False):
        matcher.advance(token)
    assert ends <= set(allowed_tokens(matcher.allowed()))
    assert matcher.advance(next(iter(ends)))


def test_a_token_that_is_not_allowed_is_an_error(compiler: TokenCompiler, base: Tokenizer) -> None:
    matcher = compiler.compile(write_grammar(Expression("a")), None)
    with pytest.raises(GrammarError):
        matcher.advance(base.encode("b", add_special_tokens=False)[0])


def test_a_grammar_that_no_text_fits_says_so(compiler: TokenCompiler) -> None:
    with pytest.raises(GrammarError, match=r"^no text fits$"):
        compiler.compile(write_grammar(JsonText({"$ref": "#"})), None).allowed()


def test_a_copy_goes_its_own_way(compiler: TokenCompiler, base: Tokenizer) -> None:
    matcher = compiler.compile(write_grammar(Expression("ab")), None)
    copy = matcher.copy()
    matcher.advance(base.encode("a", add_special_tokens=False)[0])
    assert matcher.allowed() != copy.allowed()


def test_ids_without_a_token_and_special_tokens_are_never_text(compiler: TokenCompiler, base: Tokenizer) -> None:
    matcher = compiler.compile(write_grammar(Expression("(.|\n)+")), None)
    allowed = set(allowed_tokens(matcher.allowed()))
    assert not allowed & set(range(base.vocab_size, base.vocab_size + GAP))
    assert not any(base.is_hidden(token) for token in allowed)


def test_an_adapters_words_may_come_where_the_grammar_allows_their_text(base: Tokenizer, tmp_path: Path) -> None:
    compiler = TokenCompiler(lambda: base, base.vocab_size + GAP, base.eos_ids)
    ref = with_words(tmp_path / "a.safetensors", ("<yes>", "<no>"))
    grammar = write_grammar(Choice(("<yes>", "maybe")))
    allowed = set(allowed_tokens(compiler.compile(grammar, ref).allowed()))
    first = base.vocab_size + GAP
    assert first in allowed
    assert first + 1 not in allowed
    assert not allowed & set(range(base.vocab_size, first))
    assert first not in allowed_tokens(compiler.compile(grammar, None).allowed())


KEYS = {
    "type": "object",
    "properties": {"the first": {"const": "brown fox"}, "the second": {"type": "boolean"}},
    "required": ["the first", "the second"],
    "additionalProperties": False,
}


def test_a_text_without_a_choice_is_forced_up_to_the_next_choice(compiler: TokenCompiler, base: Tokenizer) -> None:
    grammar = write_grammar(JsonText(KEYS, white_space=None))
    matcher = compiler.compile(grammar, None)
    matcher.advance(base.encode("{", add_special_tokens=False)[0])
    before = matcher.allowed()
    text = base.decode(list(matcher.forced()))
    assert '"the first":"brown fox","the second":'.startswith(text)
    assert len(text) > 20
    assert matcher.allowed() == before


def test_forced_tokens_never_complete_a_text(compiler: TokenCompiler) -> None:
    matcher = compiler.compile(write_grammar(Choice(("the quick brown fox",))), None)
    complete = False
    for token in matcher.forced():
        complete = matcher.advance(token)
    assert not complete


def test_what_is_allowed_ahead_is_what_is_allowed_there(compiler: TokenCompiler) -> None:
    grammar = write_grammar(JsonText(PERSON))
    for seed in range(10):
        tokens, _ = walk(compiler.compile(grammar, None), random.Random(seed), 40)
        stepwise, ahead = compiler.compile(grammar, None), compiler.compile(grammar, None)
        masks = ahead.allowed_after(tokens)
        for token, mask in zip(tokens, masks, strict=False):
            assert stepwise.allowed() == mask
            stepwise.advance(token)
        assert len(masks) >= len(tokens)
        assert ahead.allowed() == masks[0]


def test_behind_a_token_that_is_not_allowed_nothing_is_looked_up(compiler: TokenCompiler, base: Tokenizer) -> None:
    matcher = compiler.compile(write_grammar(Expression("(ab)+")), None)
    right, wrong = (base.encode(text, add_special_tokens=False)[0] for text in ("a", "q"))
    assert len(matcher.allowed_after([wrong, right])) == 1
    assert len(matcher.allowed_after([right, wrong])) == 2
    assert not matcher.advance(right)
