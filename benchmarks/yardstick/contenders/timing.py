"""The one way to time a call."""

import time
from collections.abc import Callable


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
