"""One engine process: started with its settings on stdin, signalled, waited for.

Owns only the operating system's side: process group, pipe, signals, and the description of how it ended. What the
process sends over its socket is up to the engine client.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

STDERR = 2
CANNOT_START = 3
"""The exit status of an engine that would fail in the same way however often it is started; `worker` exits with it."""


class EngineProcess:
    """A running engine process. It has its own process group, so that a terminal's Ctrl-C does not reach it.

    It stays in the session: with autogroup, Linux divides a machine among sessions, and niceness acts only within one.

    Its stdin stays open for as long as this process lives: when that pipe ends, for whatever reason, the engine exits,
    so that a killed server leaves no engine behind.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Sequence[str], settings_json: str) -> "EngineProcess":
        """Start `command` and give it the settings as one line; its stdout and stderr both go to our stderr.

        Raises:
            OSError: the program cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=STDERR,
            stderr=STDERR,
            preexec_fn=os.setpgrp,  # uvloop has no `process_group`
        )
        if process.stdin is not None:
            # If the process is already dead, `wait` will notice it.
            with contextlib.suppress(ConnectionError):
                process.stdin.write(f"{settings_json}\n".encode())
                await process.stdin.drain()
        return cls(process)

    def write(self, line: bytes) -> None:
        """Send a line to its stdin, without waiting; does nothing if it has ended."""
        if self._process.stdin is not None and not self.ended:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(line)

    async def wait(self) -> int:
        """Wait until it has ended; return its status, which is negative if a signal ended it."""
        return await self._process.wait()

    async def wait_for(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether it has ended and was waited for."""
        return self._process.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and its children; does nothing if it has ended."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill(self) -> None:
        """Kill it immediately, unless it has ended."""
        self.signal(signal.SIGKILL)
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def ending(status: int) -> str:
    """Return the description of a status, for example `exit status 1` or `signal SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
