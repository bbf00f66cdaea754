"""Schemas drawn at random: leaves of every type, and records, lists and alternatives of them."""

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Schema = dict[str, Any]

NAMES = ("a", "b", "c", "id", "x y", "\u00e9")
_BOUNDS = st.integers(0, 6)
_VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=5) | st.just([]) | st.just({"a": 1})
)


def _leaf(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries(required, optional=optional)


_LEAVES = (
    _leaf({"type": st.just("integer")}, minimum=_BOUNDS, maximum=st.integers(3, 999), multipleOf=st.integers(1, 4)),
    _leaf({"type": st.just("string"), "maxLength": _BOUNDS}, minLength=st.integers(0, 2)),
    _leaf({"type": st.sampled_from(("boolean", "null", "number"))}, title=st.text(max_size=5)),
    _leaf({"enum": st.lists(_VALUES, min_size=1, max_size=4, unique_by=json.dumps)}),
    _leaf({"const": _VALUES}),
)


def _around(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Return lists, records and alternatives of the inner schemas; a record may require what it does not list."""
    lists = st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3))
    records = st.builds(
        lambda properties, required, closed: {
            "type": "object",
            "properties": properties,
            "required": required,
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
        st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        st.sampled_from((True, True, False)),
    )
    either = st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3))
    return lists | records | records | either


SCHEMAS: st.SearchStrategy[Schema] = st.recursive(st.one_of(_LEAVES), _around, max_leaves=6)


def drawn_schemas(count: int) -> list[Schema]:
    """Return as many schemas, the same ones every time."""
    found: list[Schema] = []

    @seed(20261126)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(SCHEMAS)
    def collect(schema: Schema) -> None:
        found.append(schema)

    collect()
    return found[:count]
