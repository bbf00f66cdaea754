"""How far a long run has come: a bar on a terminal, a line each half minute elsewhere."""

import sys
import time
from typing import TextIO

WIDTH = 30
EVERY_SECONDS = 30.0


class Progress:
    """Shows a share of the whole and a few words beside it."""

    def __init__(self, name: str, out: TextIO = sys.stderr) -> None:
        self._name = name
        self._out = out
        self._began = self._shown = time.monotonic()
        self._on_terminal = out.isatty()

    def show(self, share: float, words: str) -> None:
        """Show it; may be called as often as one likes."""
        now = time.monotonic()
        if not self._on_terminal and now - self._shown < EVERY_SECONDS:
            return
        self._shown = now
        full = round(WIDTH * min(1.0, max(0.0, share)))
        minutes, seconds = divmod(int(now - self._began), 60)
        line = f"{self._name} [{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%} {minutes}:{seconds:02} {words}"
        self._out.write(f"\r\x1b[K{line}" if self._on_terminal else f"{line}\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the bar's line."""
        if self._on_terminal:
            self._out.write("\n")
