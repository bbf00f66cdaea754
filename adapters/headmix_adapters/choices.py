"""The valid choices for a field, appended to msgspec's message about an invalid value."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import inspect

_INVALID = re.compile(r"Invalid enum value .* - at `\$\.?(?P<path>.*)`", re.DOTALL)


def choices_after(error: msgspec.MsgspecError, kind: object) -> str:
    """Return what to append to the error for text that is not a valid `kind`; empty if the field has no choices."""
    found = _INVALID.fullmatch(str(error))
    choices = [] if found is None else sorted(_choices(_at(inspect.type_info(kind), found["path"])))
    return f"; it must be one of {', '.join(choices)}" if choices else ""


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
