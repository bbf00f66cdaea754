"""A contender's processes: stopped (SIGSTOP) except during queries, and ended with this process."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

PATIENCE_SECONDS = 30


class StoppedProcess:
    """A process and everything it starts. They run only inside `awake`, so they take no time from others."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    @property
    def ended(self) -> bool:
        """Whether the process has exited."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Stop all of them."""
        self._signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let them run."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.stop()

    def close(self) -> None:
        """End the process and everything it started."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)  # in its own session: the group is the process and all it started


@contextmanager
def stopped_process(
    command: Sequence[str], output: IO[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> Iterator[StoppedProcess]:
    """Start a command, awake, and end it on exit; `env` is added to the environment, from which PYTHONPATH is removed.

    If this process is killed first, a watcher kills the command and everything it started, even while they are stopped.
    """
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        text=True,
        pass_fds=pass_fds,
        start_new_session=True,
        env={**clean, **env},
    )
    started = StoppedProcess(process)
    # Its standard input ends when this process does.
    watcher = subprocess.Popen(
        ["sh", "-c", f"read _; kill -KILL -{process.pid}"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield started
    finally:
        started.close()
        watcher.kill()
        watcher.communicate()
