"""A value ends at its own bracket, wherever the text is cut and whatever its strings contain."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.text.tools.json_span import JsonSpan, NotJsonError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
CONTAINERS = st.lists(VALUES) | st.dictionaries(st.text(), VALUES)


@given(
    value=CONTAINERS, before=st.text(), behind=st.text(), sizes=st.lists(st.integers(1, 5)), ascii_only=st.booleans()
)
def test_the_end_is_found_in_any_pieces(
    value: object, before: str, behind: str, sizes: list[int], ascii_only: bool
) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only)
    text = before + written + behind
    span = JsonSpan(len(before))
    place = len(before)
    for size in [*sizes, len(text)]:
        place += size
        end = span.end(text[:place])
        if end is not None:
            break
    assert end == len(before) + len(written)


@pytest.mark.parametrize("text", ["{<", '{"a": 1}}'[:8] + "</x>", "{'a'", "{a: ~"])
def test_what_cannot_become_json_is_told_from_what_is_not_complete(text: str) -> None:
    span = JsonSpan(0)
    try:
        end = span.end(text)
    except NotJsonError:
        return
    assert end == 8


@pytest.mark.parametrize("text", ["{", '{"', '{"a\\', '{"a\\"', '{"a": [1, 2', '{"a": "}'])
def test_an_incomplete_value_has_no_end_yet(text: str) -> None:
    assert JsonSpan(0).end(text) is None
