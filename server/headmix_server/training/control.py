"""What a worker is told from outside: to end, to hurry, to stand aside while its server has requests.

Signals come from a terminal or a service manager; lines on standard input from the server that has started the worker.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

BUSY, FREE = b"busy\n", b"free\n"
"""What the server writes when its first request is opened, and some time after its last one has ended."""


class Control:
    """Safe to use from many threads. `stopping` and `hurrying` are never cleared."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.hurrying = threading.Event()
        self._lock = threading.Lock()
        self._busy = False
        self._on_busy: Callable[[bool], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether to use no CPU at the moment."""
        with self._lock:
            return self._busy

    def set_busy(self, busy: bool) -> None:
        """Stand aside, or no longer."""
        with self._lock:
            self._busy = busy
            if self._on_busy is not None:
                self._on_busy(busy)

    def watch(self, on_busy: Callable[[bool], None] | None) -> None:
        """Call `on_busy` now and at each change, until another watches."""
        with self._lock:
            self._on_busy = on_busy
            if on_busy is not None:
                on_busy(self._busy)

    def stop(self) -> None:
        """Stop: the first call in order, the second at once."""
        if self.stopping.is_set():
            self.hurrying.set()
        self.stopping.set()


def obey_signals(control: Control) -> None:
    """Stop at SIGINT and SIGTERM."""

    def stop(_: int, __: FrameType | None) -> None:
        control.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def obey_server(control: Control) -> None:
    """Do what the lines on standard input say; at its end, which is the server's end, stop."""
    threading.Thread(target=_listen, args=(control,), name="server", daemon=True).start()


def read_line(descriptor: int) -> bytes:
    """Return the next line, and read nothing beyond it: what follows is for `obey_server`."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line


def _listen(control: Control) -> None:
    # The descriptor is read directly: a thread blocked in `sys.stdin`'s lock makes the interpreter abort at exit.
    while line := read_line(sys.stdin.fileno()):
        control.set_busy(line == BUSY)
    control.stop()
