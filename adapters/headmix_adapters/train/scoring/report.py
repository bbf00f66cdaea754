"""What a run prints to standard error for the person who started it: milestones, stages, progress. Knows no models.

On a terminal a stage is a spinner and training is a progress bar; elsewhere each is a plain line.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from headmix_adapters.train.terminal.progress import Progress, readable
from headmix_adapters.train.terminal.progress_bar import BarProgress
from headmix_adapters.train.terminal.progress_lines import LineProgress


class Reporter:
    """Prints a run's milestones."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def scores(self, whose: str, scores: Mapping[str, float] | None) -> None:
        """Print scores by name, if the task defines them."""
        if scores is not None:
            self.say(f"{whose}: " + ", ".join(f"{readable(name)} {value:.4g}" for name, value in scores.items()))

    @contextmanager
    def stage(self, text: str, *, keep: bool = False) -> Iterator[None]:
        """Show what the block does while it runs; with `keep` the line stays on a terminal too."""
        if keep or not self._console.is_interactive:
            self.say(text)
        if self._console.is_interactive:
            with self._console.status(Text(text)):
                yield
        else:
            yield

    @contextmanager
    def training(self) -> Iterator[Progress]:
        """Return the progress display for the training done in the block."""
        interactive = self._console.is_interactive
        progress: Progress = BarProgress(self._console) if interactive else LineProgress(self.say)
        try:
            yield progress
        finally:
            progress.end()
