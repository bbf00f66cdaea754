"""A circuit breaker: after a failure to reach something, others need not wait to fail in the same way."""

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Refuses tries for `seconds` after a failure, then lets one through each time that long until one succeeds.

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
        """Return whether to try; the caller reports the outcome."""
        if self._closed:
            return True
        with self._lock:
            now = self._clock()
            if self._closed or now >= self._retry_at:
                self._retry_at = now + self._seconds
                return True
            return False

    def failed(self) -> None:
        """Note a failure: it could not be reached."""
        with self._lock:
            self._closed = False
            self._retry_at = self._clock() + self._seconds
        self._on_failure()

    def succeeded(self) -> bool:
        """Note that it was reached; return whether that is news."""
        if self._closed:
            return False
        with self._lock:
            news, self._closed = not self._closed, True
            return news
