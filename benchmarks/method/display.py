"""What is shown while the plan runs: a bar with the time left on a terminal, otherwise a line for each cell."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from benchmarks.method.results import Cell, Result
from headmix_adapters.train.terminal.progress import Progress, duration


class Display:
    """Shows a line for each finished cell, with the time left.

    The time left is the CPU seconds left times what a CPU second has taken so far on this machine.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = self._used = 0.0
        self._slowness = 1.0
        self._total = self._left = 0.0

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, markup=False)

    def begin(self, cell: Cell, left: float) -> None:
        """Begin a cell; `left` CPU seconds are left for the plan."""
        self._left = left
        self._began = self._clock()

    def training(self) -> Progress:
        """Return what receives the training's events."""
        return Progress()

    def end(self, result: Result) -> None:
        """End a cell."""
        elapsed = self._clock() - self._began
        self._total += elapsed
        self._used += result.cpu_seconds
        self._slowness = self._total / max(self._used, 1e-6)
        scores = result.validation or result.test
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items()) or "diverged"
        self.say(f"{result.cell}: {shown} ({self.time_left(self._left - result.cpu_seconds)})")

    def time_left(self, cpu_seconds: float) -> str:
        """Return how long CPU seconds will take."""
        return f"{duration(max(0.0, cpu_seconds) * self._slowness)} left"

    def close(self) -> None:
        """End the display."""


class BarDisplay(Display):
    """Also shows a bar: the running cell's steps, and the time left for the plan."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            expand=True,
        )
        self._task: TaskID = self._bar.add_task("loading", total=1, left="")
        self._bar.start()

    def begin(self, cell: Cell, left: float) -> None:
        """Name the cell."""
        super().begin(cell, left)
        self._bar.update(self._task, description=str(cell), completed=0, left=self.time_left(left))

    def training(self) -> Progress:
        """Return what moves the bar."""
        return _Steps(self._bar, self._task)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class _Steps(Progress):
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def begin(self, done: int, total: int, epochs: int) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def wants(self, step: int) -> bool:
        return True

    def step(self, step: int, epoch: float, loss: float) -> None:
        self._bar.update(self._task, completed=step)

    def stopping(self) -> None:
        self._bar.update(self._task, description="stopping after this step; Ctrl-C again stops at once")


def display_on(console: Console) -> Display:
    """Return a bar on a terminal, else lines."""
    return BarDisplay(console) if console.is_terminal else Display(console)
