"""What a sequence computes with, as far as its adapters are concerned: which ones, and how much of each.

Keys and values computed with the same combination are the same, whatever order its adapters were named in.
"""

from collections.abc import Iterable

MAX_ADAPTERS = 4
"""The most adapters of one request."""

MAX_SCALE = 10.0
"""The largest scale of a request's adapter, in both directions."""

Combination = str | tuple[tuple[str, float], ...] | None
"""The digest of one unscaled adapter; several or scaled ones as (digest, scale), ordered; None for the base alone."""


def combination_of(uses: Iterable[tuple[str, float]]) -> Combination:
    """Return the combination of adapters given as (digest, scale), in any order."""
    ordered = tuple(sorted(uses))
    if not ordered:
        return None
    digest, scale = ordered[0]
    return digest if len(ordered) == 1 and scale == 1 else ordered


def digests_of(combination: Combination) -> tuple[str, ...]:
    """Return the adapters of a combination."""
    match combination:
        case None:
            return ()
        case str():
            return (combination,)
        case _:
            return tuple(digest for digest, _ in combination)
