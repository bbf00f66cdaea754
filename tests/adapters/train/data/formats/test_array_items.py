"""Items of arrays are those that a parser finds, wherever chunks end; none is kept that is too long."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.train.data.formats import array_items as module
from headmix_adapters.train.data.formats.array_items import array_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\[]{},:\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\{', max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 0, 1]), chunk=st.integers(1, 9))
def test_items_are_those_that_a_parser_finds(values: list[Any], indent: int | None, chunk: int) -> None:
    text = f"\n {json.dumps(values, indent=indent)} \n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        items = list(array_items(io.StringIO(text), 10_000))
    assert [json.loads(item.text) for item in items] == values
    assert not any(item.fault for item in items)
    lines = text.split("\n")
    for item in items:
        assert item.text.split("\n")[0] in lines[item.number - 1]


@given(text=st.text('[]{},"\\ 1\n', max_size=30), chunk=st.integers(1, 5))
def test_whatever_is_no_array_has_a_fault_or_an_item_that_is_no_json(text: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        items = list(array_items(io.StringIO("[" + text), 10_000))
    try:
        json.loads("[" + text)
    except ValueError:
        assert any(item.fault or not is_json(item.text) for item in items)
    else:
        assert all(not item.fault and is_json(item.text) for item in items)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_an_item_that_is_too_long_is_passed_over_with_its_line() -> None:
    text = '[{"a": 1},\n{"a": "' + "x" * 300_000 + '"},\n{"a": 2}]'
    items = list(array_items(io.StringIO(text), 100))
    assert [(item.number, item.text[:8], bool(item.fault)) for item in items] == [
        (1, '{"a": 1}', False),
        (2, "", True),
        (3, '{"a": 2}', False),
    ]
