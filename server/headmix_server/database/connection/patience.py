"""How long a transaction waits for the database server to respond before it gives up."""

from collections.abc import Mapping
from typing import Any, Final

PROMPT: Final = 5.0
"""For the short reads that every request starts with: a server that takes longer is unavailable."""

USUAL: Final = 30.0

UNBOUNDED: Final = float("inf")
"""For changes of the schema."""

_OPTION = "headmix_patience"


def with_patience(seconds: float) -> dict[str, Any]:
    """Return the execution option of an engine or connection."""
    return {_OPTION: seconds}


def patience_of(options: Mapping[str, Any]) -> float:
    """Return the seconds in execution options."""
    seconds: float = options.get(_OPTION, USUAL)
    return seconds
