"""Numbers in schemas that are larger than a double holds exactly: the library would round them without a word.

A bound is moved inward, by less than a part in 10^14; a value that an answer must have is refused.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from headmix_server.core.grammar import GrammarError

EXACT = 2**53
"""Up to here, doubles hold all integers."""

MOST_WITH_FRACTION = 2**43
"""A larger number with a fraction may be written with another last digit."""

LEAST_MULTIPLE = 1e-9
"""A smaller step between numbers would be taken for none."""

FARTHEST = 2**63 - 10**5
"""The library's integers end beyond this."""

_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_VALUES = ("const", "enum", "multipleOf")
_DIGITS = 15  # that a double keeps of any decimal number


def with_exact_numbers(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a schema that nothing fits which does not fit the given one, and whose numbers the library holds.

    Raises:
        GrammarError: a number cannot be enforced; the message names the keyword.
    """
    if isinstance(schema, list):
        return [with_exact_numbers(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _exact(key, value) for key, value in schema.items()}


def _exact(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if key in _VALUES and _has_large(value):
        raise GrammarError(f'"{key}" has a number beyond {EXACT}, up to which numbers are exact')
    if key == "multipleOf" and isinstance(value, int | float) and 0 < value < LEAST_MULTIPLE:
        raise GrammarError(f'"{key}" is smaller than {LEAST_MULTIPLE:g}')
    if key in _LOWER and _is_large(value):
        return _inward(key, value, 1)
    if key in _UPPER and _is_large(value):
        return _inward(key, value, -1)
    return with_exact_numbers(value)


def _inward(key: str, bound: float, step: int) -> int:
    """Return a bound of 15 digits that is a little higher, or with a `step` of -1 a little lower.

    Raises:
        GrammarError: only numbers are left that the library's integers don't reach.
    """
    if bound * step > FARTHEST:
        raise GrammarError(f'"{key}" is beyond {FARTHEST}, up to which numbers can be bounded')
    context = Context(prec=_DIGITS, rounding=ROUND_CEILING if step > 0 else ROUND_FLOOR)
    moved = context.plus(Decimal(bound))
    return int(context.add(moved, step * Decimal((0, (1,), int(moved.as_tuple().exponent)))))


def _has_large(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_large, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_large, value))
    return _is_large(value)


def _is_large(value: object) -> bool:
    """Return whether doubles may not hold the number: a large integer, or a fraction of many digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) > (EXACT if float(value).is_integer() else MOST_WITH_FRACTION)
