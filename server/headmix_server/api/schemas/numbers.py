"""Integers in request bodies. JSON has only one number type, and some clients write the integer 4 as `4.0`."""

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _all_whole(values: object) -> object:
    # Lists of token ids are long and rarely contain a float, so the list is searched before it is copied.
    return [_whole(value) for value in values] if isinstance(values, list) and float in map(type, values) else values


Whole = BeforeValidator(_whole)
"""On an integer: whole floats are accepted, other floats are not."""

AllWhole = BeforeValidator(_all_whole)
"""On a list of integers: the same for each entry."""
