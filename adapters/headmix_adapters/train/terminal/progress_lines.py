"""Training progress without a terminal: a line every ten seconds and after every epoch."""

import time
from collections.abc import Callable, Mapping

from headmix_adapters.train.terminal.progress import TimedProgress, duration, rate

_SECONDS = 10.0


class LineProgress(TimedProgress):
    """Prints each line with `say`."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(_SECONDS, clock)
        self._say = say
        self._began = (0.0, 0)

    def begin(self, done: int, total: int, epochs: int) -> None:
        """Remember when and at which step training began, for the rate."""
        super().begin(done, total, epochs)
        self._began = (self.clock(), done)

    def step(self, step: int, epoch: float, loss: float) -> None:
        """Report the progress of training."""
        started, first = self._began
        per_second = (step - first) / max(self.clock() - started, 1e-9)
        left = f", {duration((self.total - step) / per_second)} left" if per_second and step < self.total else ""
        self._say(
            f"step {step} of {self.total} (epoch {epoch:.1f} of {self.epochs}): "
            f"loss {self.smoothed(step, loss):.4g}, {rate(per_second)}{left}"
        )

    def epoch(self, number: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Report the results of an epoch."""
        self._say(self.epoch_line(number, loss, scores))

    def scored(self, step: int, loss: float | None, scores: Mapping[str, float]) -> None:
        """Report the results after a step."""
        self._say(self.step_line(step, loss, scores))
