"""How many lines of all batches may be open at once, and how that is divided among the batches that run."""

from collections.abc import Callable

OPEN_BYTES = 32 << 20
"""The most bytes of open lines of one batch, unless a single line has more."""


class Window:
    """The window of one server, `most` lines in all; used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0

    def enter(self) -> None:
        """Count a batch that runs."""
        self._running += 1

    def leave(self) -> None:
        """Count it no longer."""
        self._running -= 1

    def share(self, limit: int) -> int:
        """Return how many lines one of the batches may have open; `limit` is its tenant's own, 0 for none."""
        share = max(1, self._most // max(1, self._running))
        return min(share, limit) if limit else share


ShareOf = Callable[[], int]
