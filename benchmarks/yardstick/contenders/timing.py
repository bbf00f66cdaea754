"""Timing of a call, shared by all contenders."""

import time
from collections.abc import Callable


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
