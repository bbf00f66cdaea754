"""Which adapter to evict when a tier is full."""

from collections.abc import Iterable, Mapping


def choose_victim(candidates: Iterable[str], wanted: Mapping[str, int]) -> str:
    """Return the first candidate that no queued request wants; if all are wanted, the one wanted last.

    `candidates` must not be empty and are ordered from least to most recently used; `wanted` maps an adapter to the
    position in the queue of the first request that wants it.
    """
    last = ""
    for digest in candidates:
        if digest not in wanted:
            return digest
        if not last or wanted[digest] > wanted[last]:
            last = digest
    if not last:
        raise ValueError("there is nothing to evict")
    return last
