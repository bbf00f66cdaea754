"""A long run's progress: a bar on a terminal, elsewhere a line every half minute."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY_SECONDS = 30.0


class Progress:
    """Shows the share that is done, with a few words next to it."""

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        columns = (TextColumn(name), BarColumn(30), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._name = name
        self._on_terminal = console.is_terminal
        self._bar = Bar(*columns, TextColumn("{task.description}", markup=False), console=console)
        self._task = self._bar.add_task("", total=1.0)
        self._began = self._shown = time.monotonic()
        if self._on_terminal:
            self._bar.start()

    def show(self, share: float, words: str) -> None:
        """Show the progress; may be called as often as you like."""
        now = time.monotonic()
        if self._on_terminal:
            self._bar.update(self._task, completed=share, description=words)
        elif now - self._shown >= EVERY_SECONDS:
            self._shown = now
            minutes, seconds = divmod(int(now - self._began), 60)
            sys.stderr.write(f"{self._name} {share:4.0%} {minutes}:{seconds:02} {words}\n")

    def end(self) -> None:
        """End the bar's line."""
        if self._on_terminal:
            self._bar.stop()
