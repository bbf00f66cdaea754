"""One worker as its parent sees it: started for its first job, and again after it has died."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from headmix_server.core.errors import PayloadTooLarge, ServerOverloaded
from headmix_server.core.observability.logging import get_logger
from headmix_server.text.workers.apart import TOO_MUCH_MEMORY, WORK_SIGNAL, TooMuchWorkError
from headmix_server.text.workers.frames import read_frame, write_frame
from headmix_server.text.workers.worker import DONE, OUT_OF_MEMORY, Job

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_KEPT_BEGINNINGS = ("PYTHON", "LD_", "LC_", "TOKENIZERS_", "COVERAGE_")
MODULE = "headmix_server.text.workers.worker"


class WorkerProcess:
    """Runs one job at a time, in a process on the base in `folder` that may take `memory` bytes besides its code.

    `run` blocks and is called from threads; `kill` may be called from any thread, and ends the running job.
    """

    def __init__(self, folder: Path, memory: int, *, python: Sequence[str] = (sys.executable,)) -> None:
        self._command = (*python, "-m", MODULE, str(folder), str(os.getpid()), str(memory))
        self._process: subprocess.Popen[bytes] | None = None
        self._log = get_logger("text")

    @property
    def pid(self) -> int | None:
        """The process's id; None if it is not running."""
        return None if self._process is None else self._process.pid

    def run(self, job: Job) -> object:
        """Return the job's result, or raise its error.

        Raises:
            PayloadTooLarge: the job takes too much memory.
            TooMuchWorkError: it takes more processor time than it may.
            ServerOverloaded: the process cannot be started, died or was killed.
        """
        frame = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
        try:
            reply = self._exchange(frame)
        except OSError as error:
            self._log.error("a text worker cannot be used", reason=str(error))
            reply = None
        if reply is None:
            self.kill()
            status = self._reap()
            if status == -WORK_SIGNAL:
                raise TooMuchWorkError
            if status == -signal.SIGABRT:  # how the tokenizers library ends if it gets no memory
                raise PayloadTooLarge(TOO_MUCH_MEMORY)
            raise ServerOverloaded("The process that reads long texts ended while it read this one; try again.")
        kind, result = pickle.loads(reply)  # noqa: S301 - our own process's
        if kind == OUT_OF_MEMORY:
            self._reap()
            raise PayloadTooLarge(TOO_MUCH_MEMORY)
        if kind == DONE:
            return result
        raise result

    def kill(self) -> None:
        """End the process immediately, if it is running."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self.kill()
        self._reap()

    def _exchange(self, frame: bytes) -> bytes | None:
        process = self._running()
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        write_frame(process.stdin, frame)  # type: ignore[arg-type]
        return read_frame(process.stdout)  # type: ignore[arg-type]

    def _running(self) -> "subprocess.Popen[bytes]":
        """Return the process, starting a new one if necessary."""
        if self._process is not None and self._process.poll() is not None:
            self._log.warning("a text worker died; starting a new one", status=self._process.returncode)
            self._reap()
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
                env=_environment(os.environ),
            )
            self._log.debug("text worker started", pid=self._process.pid)
        return self._process

    def _reap(self) -> int | None:
        """Wait for the process to end, if there is one; return its status."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: what programs need to run, and none of the server's secrets."""
    kept = {name: value for name, value in own.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)}
    # Each job has a thread of its own; with more than one arena, each would take address space, which is bounded.
    return {**kept, "RUST_BACKTRACE": "0", "MALLOC_ARENA_MAX": "1"}
