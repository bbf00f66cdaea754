"""Which artifacts' bytes are in use: counted holds by digest, and exclusive access for freeing bytes.

A request holds its adapter from the moment the name is resolved until the request has ended; a publication holds what
it stores; a pin holds its adapter as long as it lasts. Knows neither files nor the catalog.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class Hold:
    """One use of an artifact, ended once by `release` or at the end of a `with` block, in any thread."""

    def __init__(self, digest: str, give_back: Callable[[str], None]) -> None:
        self.digest = digest
        self._give_back: Callable[[str], None] | None = give_back
        self._lock = threading.Lock()

    def release(self) -> None:
        """End the use; a second call does nothing."""
        with self._lock:
            give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self.digest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class HeldUntilEnd:
    """The artifacts a request uses. Threads may add holds while it ends: late ones are released at once."""

    def __init__(self) -> None:
        self._holds: list[Hold] = []
        self._ended = False
        self._lock = threading.Lock()

    def add(self, hold: Hold) -> None:
        """Keep a hold until the end."""
        with self._lock:
            if not self._ended:
                self._holds.append(hold)
                return
        hold.release()

    def end(self) -> None:
        """Release all holds, and any that are added afterwards."""
        with self._lock:
            self._ended = True
            holds, self._holds = self._holds, []
        for hold in holds:
            hold.release()


class Holds:
    """All holds. Safe to use from many threads."""

    def __init__(self) -> None:
        self._on_last: Callable[[str], None] = lambda _: None
        self._counts: Counter[str] = Counter()
        self._exclusive: set[str] = set()
        self._changed = threading.Condition()

    def watch(self, on_last: Callable[[str], None]) -> None:
        """Call `on_last` with each digest whose last hold is released.

        It must not block: holds are also released on the event loop.
        """
        self._on_last = on_last

    def acquire(self, digest: str) -> Hold:
        """Hold an artifact. This waits while its bytes are being freed, so never call it on the event loop."""
        with self._changed:
            self._changed.wait_for(lambda: digest not in self._exclusive)
            self._counts[digest] += 1
        return Hold(digest, self._give_back)

    def is_held(self, digest: str) -> bool:
        """Return whether the artifact is in use."""
        with self._changed:
            return digest in self._counts

    @property
    def digests(self) -> frozenset[str]:
        """The digests that are held now."""
        with self._changed:
            return frozenset(self._counts)

    @contextmanager
    def exclusively(self, digest: str) -> Iterator[bool]:
        """Yield true and lock the artifact for the block, or yield false if it is in use."""
        with self._changed:
            free = digest not in self._counts and digest not in self._exclusive
            if free:
                self._exclusive.add(digest)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._exclusive.remove(digest)
                    self._changed.notify_all()

    def _give_back(self, digest: str) -> None:
        with self._changed:
            self._counts[digest] -= 1
            last = not self._counts[digest]
            if last:
                del self._counts[digest]
        if last:
            self._on_last(digest)
