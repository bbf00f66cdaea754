"""The recorded outputs of the served families, in the collection that other engines are tested with.

They are read as text, in which special tokens have their names: the families' own tokenizers are not at hand.
"""

import random
from collections.abc import Iterator, Sequence

import pytest
from canitoolcall.fixtures import Fixture, load_fixtures
from canitoolcall.pytest_plugin import assert_conforms, assert_equivalent
from canitoolcall.results import ParsedToolCall, ParseResult

from headmix_server.text.tools.formats import HERMES, LLAMA, MISTRAL, MISTRAL_LIST, THOUGHTS, ToolFormat
from headmix_server.text.tools.reader import ToolReader
from tests.server.text.tools.read import pieces_of, read

SERVED = ("qwen3-hermes", "llama", "mistral")
NOT_SERVED = "x-llama-pythonic"
"""Llama 4, whose calls are Python, is no family that is served."""


def fixtures() -> list[Fixture]:
    return [one for one in load_fixtures(families=list(SERVED)) if NOT_SERVED not in one.tags]


def format_of(fixture: Fixture) -> ToolFormat:
    if fixture.family == "qwen3-hermes":
        return HERMES
    if fixture.family == "llama":
        return LLAMA
    return MISTRAL_LIST if "Mistral-7B-Instruct-v0.3" in fixture.models[0] else MISTRAL


def parse(fixture: Fixture, pieces: Sequence[str]) -> ParseResult:
    prompt = (fixture.generation_prompt or "").rstrip()
    thought_end = next((ending for opening, ending in THOUGHTS if prompt.endswith(opening)), None)
    known = frozenset(str(tool["function"]["name"]) for tool in fixture.tools)
    found = read(ToolReader(format_of(fixture), known, thought_end=thought_end), pieces)
    calls = tuple(ParsedToolCall(name, arguments) for name, arguments in found.calls)
    return ParseResult(found.content or None, found.reasoning or None, calls)


def cuts(text: str) -> Iterator[list[str]]:
    """Yield the text in pieces of one size, and of sizes by chance."""
    for size in (1, 2, 3, 5, 11):
        yield pieces_of(text, [size] * (len(text) // size + 1))
    for seed in range(8):
        chance = random.Random(seed)
        yield pieces_of(text, [chance.randint(1, 9) for _ in text])


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda fixture: str(fixture.id))
def test_a_recorded_output_is_read_as_expected_in_every_cut(fixture: Fixture) -> None:
    whole = parse(fixture, [fixture.raw_output])
    assert_conforms(fixture, whole, soft=True)
    for pieces in cuts(fixture.raw_output):
        assert_equivalent(whole, parse(fixture, pieces))


def test_every_served_family_is_among_them() -> None:
    counted = {family: sum(one.family == family for one in fixtures()) for family in SERVED}
    assert counted["qwen3-hermes"] >= 50
    assert counted["mistral"] >= 47
    assert counted["llama"] >= 20
