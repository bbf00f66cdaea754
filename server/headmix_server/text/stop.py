"""Stop strings on a stream: text that could be the beginning of one is held back until that is decided.

The match that is complete first wins; of matches that end together, the longest. So the result does not depend on how
the text was split into pieces.
"""

from collections.abc import Sequence


class StopMatcher:
    """Cuts one completion's text before the first stop string. `matched` is that string once it is found."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Add text; return what can be shown. After a match, everything else is discarded."""
        if self.matched is not None:
            return ""
        pending = self._held + text
        found = self._first(pending)
        if found is not None:
            start, self.matched = found
            self._held = ""
            return pending[:start]
        keep = max((overlap(pending, stop) for stop in self._stops), default=0)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]

    def flush(self) -> str:
        """Return what was held back: the text is complete and no stop string came."""
        rest, self._held = self._held, ""
        return rest

    def _first(self, text: str) -> tuple[int, str] | None:
        """Return (start, stop) of the match that ends first in `text`, the longest if several end there."""
        hits = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not hits:
            return None
        _, start, stop = min(hits)
        return start, stop


def overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
