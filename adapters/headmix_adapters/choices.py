"""What to write instead, appended to msgspec's message about an invalid value or an unknown field."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

import msgspec
from msgspec import inspect

_INVALID = re.compile(r"Invalid enum value .* - at `\$\.?(?P<path>.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*?)`(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_ALIKE = 0.5
"""How alike, from 0 to 1, a field's name must be to be suggested."""


def choices_after(error: msgspec.MsgspecError, kind: object) -> str:
    """Return what to append to the error for text that is not a valid `kind`; empty if the field has no choices."""
    found = _INVALID.fullmatch(str(error))
    choices = [] if found is None else sorted(_choices(_at(inspect.type_info(kind), found["path"])))
    return f"; it must be one of {', '.join(choices)}" if choices else ""


def suggestion_after(error: msgspec.MsgspecError, kind: object) -> str:
    """Return what to append to the error for a `kind` with an unknown field: the field that was probably meant."""
    found = _UNKNOWN.fullmatch(str(error))
    if found is None:
        return ""
    places = _at(inspect.type_info(kind), found["path"] or "")
    known = [field.encode_name for one in places if isinstance(one, inspect.StructType) for field in one.fields]
    alike = get_close_matches(found["field"], known, n=1, cutoff=_ALIKE)
    return f"; did you mean `{alike[0]}`?" if alike else ""


def _at(kind: inspect.Type, path: str) -> list[inspect.Type]:
    """Return the types allowed at a path like `adapter.sites[1]`, with unions split up."""
    kinds = list(_members(kind))
    for step in re.findall(r"[^.\[\]]+", path):
        kinds = [member for one in kinds for inner in _inside(one, step) for member in _members(inner)]
    return kinds


def _members(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _members(member)
    elif isinstance(kind, inspect.Metadata):
        yield from _members(kind.type)
    else:
        yield kind


def _inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if field.encode_name == step)
    elif isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        yield kind.item_type
    elif isinstance(kind, inspect.TupleType):
        yield from kind.item_types


def _choices(kinds: list[inspect.Type]) -> set[str]:
    return {str(value) for kind in kinds if isinstance(kind, inspect.LiteralType) for value in kind.values}
