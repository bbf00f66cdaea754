"""Patterns in a PEFT config match as in PEFT, in linear time, or are refused by name."""

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.module_patterns import ModulePatterns, as_peft_matches

MODULE = "model.layers.10.self_attn.q_proj"
_LETTERS = st.text("aq_.0[](){}*+?|^$-\\:=!,12dwb&", max_size=12)
_ATOMS = st.one_of(
    st.sampled_from(["q_proj", "v", "layers", "1", "-", r"\.", r"\d", r"\w", ".", "[a-z_]", "[^.]", "[1-9]"]),
    st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,}", "{,2}", "*?", "++", r"\b", "^", "$", "(", ")", "|"]),
    st.sampled_from(["(?:", "(?i:Q", "[[:alpha:]]", "(?=", r"\1"]),
)
_PATTERNS = st.one_of(_LETTERS, st.lists(_ATOMS, max_size=6).map("".join))
_NAMES = st.one_of(
    st.sampled_from([MODULE, "model.layers.1.self_attn.v_proj", "q_proj", "transformer.h.2.attn.c_attn"]),
    st.text("aqv_.012", max_size=8),
)


@given(_PATTERNS, _NAMES)
def test_a_pattern_that_is_taken_matches_what_python_matches(pattern: str, name: str) -> None:
    try:
        patterns = ModulePatterns("rank_pattern", {pattern: True})
    except ConvertError:
        return
    # As in PEFT, an exact name matches whatever it means as a pattern.
    wanted = re.match(as_peft_matches(pattern), name) is not None or pattern == name
    assert patterns.value_of(name, default=False) is wanted


def test_the_first_pattern_that_matches_decides_and_else_the_default() -> None:
    patterns = ModulePatterns("rank_pattern", {r"layers\.\d+\.self_attn\.q_proj": 1, "q_proj": 2})
    assert [patterns.value_of(name, 8) for name in (MODULE, "x.q_proj", "x.k_proj")] == [1, 2, 8]


@pytest.mark.parametrize("pattern", ["([a-z_0-9.]+)+!", "(a|a)*b" * 100, "(.*)*x", ".*" * 1000 + "!"])
def test_no_pattern_is_matched_by_the_engine_that_backtracks(pattern: str) -> None:
    patterns = ModulePatterns("rank_pattern", {pattern: 4})
    (compiled, _) = patterns._values[0]
    assert isinstance(compiled, re2._Regexp)
    assert patterns.value_of(MODULE * 30, 8) == 8


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "not a regular expression"),
        ("(" * 2000 + ")" * 2000, "not a regular expression"),
        ("a{99999999999999999999}", "not a regular expression"),
        ("[[:alpha:]]", "not a regular expression: Possible nested set"),
        ("[x[:alpha:]]", "[: is read differently"),
        ("q{,2}", "{, is read differently by different engines: write {0,n}"),
        ("(?=q)q_proj", "cannot be matched in linear time"),
        (r"(q)\3", "cannot be matched in linear time"),
        ("((a{100}){100}){100}", "cannot be matched in linear time"),
        ("\ud800", "half a character"),
        ("a" * 5000, "at most 4096"),
    ],
)
def test_a_pattern_without_a_linear_match_is_refused_by_name(pattern: str, reason: str) -> None:
    with pytest.raises(ConvertError) as caught:
        ModulePatterns("alpha_pattern", {pattern: 1.0})
    assert caught.value.subject == f"alpha_pattern.{pattern}"
    assert reason in caught.value.reason


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(ConvertError, match="rank_pattern: 1025 patterns"):
        ModulePatterns("rank_pattern", {str(number): 1 for number in range(1025)})
