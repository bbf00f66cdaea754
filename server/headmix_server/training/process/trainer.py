"""One run of `headmix train` as a process: started within limits, suspended, interrupted, killed. Safe to use from many
threads, except that it must be started by one that outlives it: it ends with that thread.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from headmix_server.supervisor.engine_process import ending
from headmix_server.training.process.launch import TrainerLimits

TRAIN = (sys.executable, "-P", "-m", "headmix_adapters.train")
LOG = "trainer.log"
_LAST_WORDS = 2000


class Trainer:
    """A running training. It is a process group of its own, which a terminal's Ctrl-C does not reach."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, limits: TrainerLimits, environment: Mapping[str, str]
    ) -> None:
        """Start `arguments`, a program and its arguments, in a folder; its output goes to a file there.

        Raises:
            OSError: it cannot be started.
        """
        launch = [sys.executable, "-P", "-m", "headmix_server.training.process.launch"]
        command = [*launch, msgspec.json.encode(limits).decode(), str(os.getpid()), *arguments]
        self._log = folder / LOG
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._lock = threading.Lock()
        self.suspended = False

    @property
    def pid(self) -> int:
        """Its process id, also that of its process group."""
        return self._process.pid

    def status(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        with self._lock:
            return self._process.poll()

    def suspend(self) -> None:
        """Let it use no CPU until `resume`."""
        self._signal(signal.SIGSTOP, suspended=True)

    def resume(self) -> None:
        """Let it continue."""
        self._signal(signal.SIGCONT, suspended=False)

    def interrupt(self) -> None:
        """Have it stop with a checkpoint after its current step."""
        self._signal(signal.SIGINT)
        self.resume()

    def kill(self) -> None:
        """Kill it and what it has started, and wait for its end."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds: float) -> bool:
        """Wait for its end for at most `seconds`; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status() is not None

    def last_words(self) -> str:
        """Return the end of its output."""
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
        return ""

    def ending(self) -> str:
        """Return the description of its end, for example `signal SIGKILL`."""
        status = self.status()
        return "it still runs" if status is None else ending(status)

    def _signal(self, number: signal.Signals, *, suspended: bool | None = None) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                self.suspended = self.suspended if suspended is None else suspended
