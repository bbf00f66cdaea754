"""A process that is asked for one piece of work, and never outlives the caller's wait for its answer.

Owns how it is started, asked and ended. It ends by itself when its standard input does; what it computes, what limits
it sets itself, and what its answer means are up to the two sides.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process wrote to its standard output and error, and its exit status."""

    out: bytes
    err: bytes
    status: int

    @property
    def last_words(self) -> str:
        """The last line of its standard error, or its status if it wrote none."""
        return (self.err.decode(errors="replace").strip().splitlines() or [f"exit status {self.status}"])[-1]


async def ask_process(command: Sequence[str], request: bytes, *, seconds: float) -> Answer:
    """Start a process, send it a line, and return its answer once it has exited.

    The process, and all in its process group, has ended when this returns, raises or is cancelled.

    Raises:
        TimeoutError: it took longer than `seconds`.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=os.setpgrp,  # uvloop has no `process_group`
    )
    try:
        async with asyncio.timeout(seconds):
            return await _answer(process, request)
    finally:
        await _end(process)


async def _answer(process: asyncio.subprocess.Process, request: bytes) -> Answer:
    """Send the request as one line and return the process's output. Keeps its stdin open: closing it would end it."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process was started without pipes")
    with contextlib.suppress(ConnectionError):  # if it has already exited, its status says why
        process.stdin.write(request + b"\n")
        await process.stdin.drain()
    out, err, status = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
    return Answer(out, err, status)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()
