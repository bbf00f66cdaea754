"""Training shown on a terminal: a bar with step, epoch, loss, held-out score, rate and the time left."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from headmix_adapters.train.terminal.progress import TimedProgress, rate

_SECONDS = 0.25
_WIDE = 80
"""The width of a terminal, in columns, that has room for words."""
_WIDER = 110
"""The width that has room for the held-out score too."""
_STOPPING = "stopping after this step; Ctrl-C again stops at once"


class BarProgress(TimedProgress):
    """A bar that disappears when training ends; the epochs' lines stay above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(_SECONDS, time.monotonic)
        wide = console.width >= _WIDE
        columns = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            *([TextColumn("epoch {task.fields[epoch]:.1f}")] if wide else []),
            TextColumn("{task.fields[loss]}"),
            *([TextColumn("{task.fields[held_out]}")] if console.width >= _WIDER else []),
            _RateColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            *([TextColumn("left")] if wide else []),
        ]
        self._bar = RichProgress(*columns, console=console, transient=True, expand=True)
        self._task: TaskID | None = None

    def begin(self, done: int, total: int, epochs: int) -> None:
        """Draw the bar."""
        super().begin(done, total, epochs)
        self._task = self._bar.add_task("training", total=total, completed=done, epoch=0.0, loss="", held_out="")
        self._bar.start()

    def step(self, step: int, epoch: float, loss: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, loss=f"loss {self.smoothed(step, loss):.4g}")

    def epoch(self, number: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Print the epoch above the bar."""
        self._print(self.epoch_line(number, loss, scores), scores)

    def scored(self, step: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Print the scores above the bar."""
        self._print(self.step_line(step, loss, scores), scores)

    def _print(self, line: str, scores: Mapping[str, float]) -> None:
        """Print a line above the bar; the bar keeps the latest score."""
        if self._task is not None and (latest := self.deciding(scores)):
            self._bar.update(self._task, held_out=f"held out {latest}")
        self._bar.console.print(line, highlight=False, markup=False)

    def stopping(self) -> None:
        """Change the bar's text; the thread that draws the bar shows it."""
        if self._task is not None:
            self._bar.update(self._task, description=_STOPPING)

    def end(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(rate(speed) if speed else "")
