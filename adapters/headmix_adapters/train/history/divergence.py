"""When training has failed: the loss is not finite, or stays far above where it began.

Owns the rule. Single steps say little, so medians of several are compared, and no run is judged by its first steps.
"""

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from headmix_adapters.train.errors import DivergedError

_START = 5
"""The steps that count as the start: while the learning rate still rises, a rate that is too high does no harm yet."""
_WINDOW = (5, 20)
_SHARE = 10
_ENTROPY, _SQUARES = (2.0, 1.0), (10.0, 0.0)
"""A loss is far above the first one beyond this factor and margin: for cross entropy (in nats), which is
bounded by what a guess costs unless training fails; and for squared errors, which have a unit and outliers."""


class DivergenceWatch:
    """Sees the loss of every step; the last steps are a tenth of `total`.

    `squares`: the loss is a squared error.
    """

    def __init__(self, total: int, seen: Iterable[float] = (), *, squares: bool = False) -> None:
        self._factor, self._margin = _SQUARES if squares else _ENTROPY
        self._size = min(max(total // _SHARE, _WINDOW[0]), _WINDOW[1])
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=self._size)
        for loss in seen:
            self._add(loss)

    def check(self, step: int, loss: float) -> None:
        """Look at the loss of one more step.

        Raises:
            DivergedError: training has failed.
        """
        if not math.isfinite(loss):
            raise DivergedError(step, f"the loss is not finite after step {step}: train with a lower learning_rate")
        self._add(loss)
        if len(self._last) < self._size:
            return
        start, now = median(self._first), median(self._last)
        if now > self._factor * start + self._margin:
            raise DivergedError(
                step,
                f"the loss has diverged: {now:.4g} in the last {self._size} steps up to step {step}, "
                f"{start:.4g} in the first; train with a lower learning_rate",
            )

    def _add(self, loss: float) -> None:
        if len(self._first) < _START:
            self._first.append(loss)
        else:
            self._last.append(loss)
