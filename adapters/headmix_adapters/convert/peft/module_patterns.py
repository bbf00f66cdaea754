"""PEFT's settings for single modules: regular expressions for the end of a module's name; the first match decides.

Owns PEFT's matching rules, and the guarantee that matching takes linear time for any pattern: it uses RE2, not
Python's backtracking engine. A pattern that RE2 does not support, or reads differently from Python, is refused.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Generic, TypeVar

import re2

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.convert.errors import ConvertError

T = TypeVar("T")

_MAX_PATTERNS = 1024
_MAX_CHARACTERS = 4096
_MAX_MEMORY = 1 << 20
"""Bytes RE2 may use for one pattern; a pattern that would need more is refused."""
_AMBIGUOUS: Mapping[str, str] = {"{,": "write {0,n}", "[:": "write the characters themselves"}
"""Syntax that both engines accept but interpret differently (in Python: up to n times; the characters `[` and `:`)."""


class ModulePatterns(Generic[T]):
    """Values by pattern, in the order of the file."""

    def __init__(self, field: str, values: Mapping[str, T]) -> None:
        """Compile the patterns.

        Raises:
            ConvertError: one is not a regular expression, or not one that can be matched in linear time; it is named.
        """
        if len(values) > _MAX_PATTERNS:
            raise ConvertError(field, f"{len(values)} patterns; at most {_MAX_PATTERNS} are read")
        self._values = [(_compiled(field, pattern), value) for pattern, value in values.items()]
        self._by_name = dict(values)

    def value_of(self, module: str, default: T) -> T:
        """Return the value of a module given by its full name in the base's model."""
        for pattern, value in self._values:
            if pattern.match(module):
                return value
        return self._by_name.get(module, default)


def as_peft_matches(pattern: str) -> str:
    """Return the expression that PEFT matches against a module's whole name."""
    return rf"(.*\.)?({pattern})$"


def _compiled(field: str, pattern: str) -> "re2._Regexp":
    name = f"{field}.{pattern}"
    if len(pattern) > _MAX_CHARACTERS:
        raise ConvertError(name, f"{len(pattern)} characters; a pattern has at most {_MAX_CHARACTERS}")
    _check_python(name, pattern)
    for text, instead in _AMBIGUOUS.items():
        if text in pattern:
            raise ConvertError(name, f"{text} is read differently by different engines: {instead}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(as_peft_matches(pattern), options)
    except UnicodeEncodeError:
        raise ConvertError(name, "not a regular expression: it holds half a character (a surrogate)") from None
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ConvertError(
            name, f"cannot be matched in linear time ({quoted(reason)}): write it without lookaround or backreferences"
        ) from None


def _check_python(name: str, pattern: str) -> None:
    """Refuse what Python's engine refuses: PEFT uses that engine, so such a pattern never trained anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(as_peft_matches(pattern))
    except (re.error, OverflowError, Warning) as error:
        raise ConvertError(name, f"not a regular expression: {quoted(str(error))}") from None
    except RecursionError:
        raise ConvertError(name, "not a regular expression: nested too deeply") from None
