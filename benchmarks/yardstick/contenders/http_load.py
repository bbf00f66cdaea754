"""Posts over HTTP by libcurl: with a fixed number of them open, or each at its time."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pycurl


@dataclass(slots=True)
class Exchange:
    """One request: when it was due (0: as soon as there is room), when its answer was complete, and the answer."""

    due: float
    ended: float = 0.0
    status: int = 0
    pieces: list[bytes] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds from the due time to the end of the answer.

        Raises:
            RuntimeError: the request failed.
        """
        if self.status != 200:
            raise RuntimeError(f"HTTP {self.status}: {b''.join(self.pieces)[:500]!r}")
        return self.ended - self.due


class HttpLoad:
    """Sends posts to one address over persistent connections."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = [f"Authorization: Bearer {key}", "Content-Type: application/json"]
        self._many = pycurl.CurlMulti()

    def closed(self, bodies: Sequence[bytes], width: int) -> list[Exchange]:
        """Send all, with `width` of them open at any time."""
        return self._run([Exchange(0.0) for _ in bodies], bodies, width)

    def open(self, bodies: Sequence[bytes], arrivals: Sequence[float]) -> list[Exchange]:
        """Send each at its time (seconds from now, ascending), whether or not earlier ones have been answered."""
        now = time.perf_counter()
        return self._run([Exchange(now + arrival) for arrival in arrivals], bodies, len(bodies))

    def close(self) -> None:
        """Close the connections."""
        self._many.close()

    def _run(self, exchanges: list[Exchange], bodies: Sequence[bytes], width: int) -> list[Exchange]:
        waiting = deque(zip(exchanges, bodies, strict=True))
        running: dict[pycurl.Curl, Exchange] = {}
        while waiting or running:
            while waiting and len(running) < width and waiting[0][0].due <= time.perf_counter():
                exchange, body = waiting.popleft()
                exchange.due = exchange.due or time.perf_counter()
                handle = self._handle(exchange, body)
                running[handle] = exchange
                self._many.add_handle(handle)
            self._many.perform()
            self._finish(running)
            self._wait(waiting[0][0].due if waiting and len(running) < width else None, bool(running))
        return exchanges

    def _finish(self, running: dict[pycurl.Curl, Exchange]) -> None:
        _, done, failed = self._many.info_read()
        now = time.perf_counter()
        for handle in [*done, *(entry[0] for entry in failed)]:
            exchange = running.pop(handle)
            exchange.ended, exchange.status = now, handle.getinfo(pycurl.RESPONSE_CODE)
            self._many.remove_handle(handle)
            handle.close()

    def _wait(self, due: float | None, anything_open: bool) -> None:
        pause = 1.0 if due is None else min(1.0, max(0.0, due - time.perf_counter()))
        if anything_open:
            self._many.select(pause)
        elif due is not None:
            time.sleep(pause)

    def _handle(self, exchange: Exchange, body: bytes) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, self._url)
        handle.setopt(pycurl.POSTFIELDS, body)
        handle.setopt(pycurl.HTTPHEADER, self._headers)
        handle.setopt(pycurl.WRITEFUNCTION, exchange.pieces.append)
        handle.setopt(pycurl.TIMEOUT, 600)
        return handle
