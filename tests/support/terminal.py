"""A program with its own terminal, as if started by a person: its output so far, and closing its window."""

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

PATIENCE_SECONDS = 60.0
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A running program and the other end of its terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._closing = threading.Event()
        self._screen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """Everything that was written, including styles."""
        return self._screen.decode(errors="replace")

    @property
    def text(self) -> str:
        """What was written, without styles and with plain line ends."""
        return _STYLE.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the text matches the pattern."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            if found := re.search(pattern, self.text):
                return found
            if ended:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in:\n{self.text}")

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._descriptor, text.encode())

    def close(self) -> None:
        """Close the window."""
        self._closing.set()
        self._reader.join()

    def _read(self) -> None:
        # Never inside `read` for long: a read in progress keeps a closed terminal alive.
        with suppress(OSError):
            while not self._closing.is_set():
                if select.select([self._descriptor], [], [], 0.05)[0]:
                    self._screen += os.read(self._descriptor, 65536)
        self._closing.wait()
        os.close(self._descriptor)


@contextmanager
def in_terminal(command: Sequence[str], env: Mapping[str, str], *, width: int = 100) -> Iterator[Terminal]:
    """Run a program as the session leader of a new terminal; whatever is left of it is killed at the end."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, width))
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        terminal.close()
