"""A circuit breaker: after a failure to reach something, further callers fail immediately instead of waiting."""

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Refuses attempts for `seconds` after a failure, then lets one through per such interval until one succeeds.

    Thread-safe; `clock` is monotonic, in seconds. `on_failure` is called with each failure.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._on_failure = on_failure
        self._closed = True
        self._retry_at = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Return whether to make an attempt; the caller must report its outcome."""
        if self._closed:
            return True
        with self._lock:
            now = self._clock()
            if self._closed or now >= self._retry_at:
                self._retry_at = now + self._seconds
                return True
            return False

    def failed(self) -> None:
        """Record a failed attempt."""
        with self._lock:
            self._closed = False
            self._retry_at = self._clock() + self._seconds
        self._on_failure()

    def succeeded(self) -> bool:
        """Record a successful attempt; return whether the previous one had failed."""
        if self._closed:
            return False
        with self._lock:
            news, self._closed = not self._closed, True
            return news
