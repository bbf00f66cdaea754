"""Target `grammars`: schemas, expressions and grammars of clients, to a server and to the compiler behind it.

An input is a line with the field of `structured_outputs`, and its text. The server accepts it or names the field. What
it accepts is then walked through by chance: every step allows a token or says why not, and JSON that ends fits.
"""

import json
import random
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.bases.base_folder import write_base_folder
from harness.fuzz.live_api import live_api
from harness.fuzz.targets.json_texts import Json, json_texts, odd_values
from harness.fuzz.targets.target import Target, kind_of
from harness.schemas.keywords import schemas
from harness.schemas.misfit import misfit
from harness.schemas.records import record_schema
from headmix_server.core.grammar import GrammarError
from headmix_server.engine.fake_runner import allowed_tokens
from headmix_server.text.grammars.compiler import TokenCompiler
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Language, Wanted
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer

STEPS = 60
WANTED: Mapping[str, Callable[[Any], Wanted]] = {
    "json": JsonText,
    "regex": Expression,
    "grammar": Language,
    "choice": lambda texts: Choice(tuple(texts)),
}


@cache
def _base() -> tuple[Tokenizer, TokenCompiler]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = load_tokenizer(write_base_folder(Path(folder)))
    return tokenizer, TokenCompiler(lambda: tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


def check(data: bytes) -> str:
    """Ask for a completion of this form; walk through it if the server accepts it."""
    field, _, text = data.decode(errors="replace").partition("\n")
    api = live_api()
    body = f'{{"model": "tiny-base", "prompt": "a", "max_tokens": 1, "structured_outputs": {{"{field}": {text}}}}}'
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    answer = api.send("POST", "/v1/completions", body.encode(errors="replace"), headers)
    if answer.status != 200:
        error = json.loads(answer.body)["error"]
        assert answer.status == 400, answer
        return f"{field} {error['code']} {kind_of(error['message'])[:40]}"
    value = json.loads(body)["structured_outputs"][field]
    if isinstance(value, str) and field == "json":
        value = json.loads(value)
    return f"{field} {_walk(WANTED[field](value))}"


def _walk(wanted: Wanted) -> str:
    """Take allowed tokens by chance; return how the text ended."""
    tokenizer, compiler = _base()
    matcher, rng = compiler.compile(write_grammar(wanted), None), random.Random(0)
    tokens: list[int] = []
    for _ in range(STEPS):
        try:
            allowed = allowed_tokens(matcher.allowed())
        except GrammarError:
            return "becomes too complex"
        if not allowed:
            return "fits nothing"
        tokens.append(rng.choice(allowed))
        if matcher.advance(tokens[-1]):
            if isinstance(wanted, JsonText):
                text = tokenizer.decode(tokens)
                assert not misfit(wanted.schema, text), text
            return "ends"
    return "goes on"


_EXPRESSIONS = st.from_regex(r"[a-c0-9.*+?|()\[\]{},\\^$-]{0,20}", fullmatch=True) | st.text(max_size=12)
_RULES = st.lists(
    st.tuples(
        st.sampled_from(["start", "root", "a", "B", "%ignore"]),
        st.sampled_from([": ", " ::= ", " "]),
        st.lists(
            st.sampled_from(['"x"', "/y+/", "a", "B", "|", "*", "(", ")", "%json {}", "<|im_end|>", "[0-9]", "~3"]),
            max_size=6,
        ).map(" ".join),
    ).map("".join),
    max_size=4,
).map("\n".join)
_KNOWN = st.sampled_from([*schemas(), *map(record_schema, range(20))])


def _lines(field: str, values: st.SearchStrategy[Json]) -> st.SearchStrategy[bytes]:
    return json_texts(values).map(lambda text: field.encode() + b"\n" + text)


_ODD = odd_values(("object", "integer", "properties", "items", "$ref", "#/$defs/a", "pattern", "anyOf", "enum"))
TARGET = Target(
    st.one_of(
        _lines("json", _KNOWN),
        _lines(
            "json", st.dictionaries(st.sampled_from(["type", "enum", "items", "properties", "anyOf"]), _ODD, max_size=3)
        ),
        _lines("regex", _EXPRESSIONS),
        _lines("grammar", _RULES),
        _lines("choice", st.lists(st.text(max_size=6), max_size=4)),
    ),
    check,
)
