"""What a run tells the person who started it, on standard error. Knows no models."""

from collections.abc import Mapping

from rich.console import Console


class Reporter:
    """Prints the run's milestones; `quiet` also switches progress bars off."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.quiet = quiet
        self._console = console

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def scores(self, whose: str, scores: Mapping[str, float] | None) -> None:
        """Print scores by name, or that this task defines none."""
        if scores is None:
            self.say(f"{whose}: not defined for this problem")
            return
        self.say(f"{whose}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
