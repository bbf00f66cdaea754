"""Conversion of a PEFT LoRA in its own process, for callers that must not load torch (the API process).

Owns the request, how its faults are returned, and the guarantee that the process has ended when the caller stops
waiting. `__main__` does the work, in the other process; `confinement` limits its resources.
"""

import asyncio
import contextlib
import os
import signal
import sys

import msgspec

from headmix_adapters.config import BaseShape, Problem
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_adapters.convert.errors import ConvertError

COMMAND = (sys.executable, "-m", "headmix_adapters.convert")
REFUSED = 3
"""The exit status of a refused conversion; its reasons are on standard output as a JSON list."""


class ConversionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PEFT LoRA given as its two files: the path of the weights, the text of adapter_config.json.

    `labels` and `problem` are for a classification head; None means transformers' defaults. `allow_base_mismatch`
    accepts a base whose tokenizer transformers reads differently.
    """

    weights: str
    config: str
    out: str
    base_folder: str
    base: BaseShape
    limits: ConversionLimits
    labels: tuple[str, ...] | None = None
    problem: Problem | None = None
    allow_base_mismatch: bool = False


_REQUEST = msgspec.json.Decoder(ConversionRequest)


def decode_request(line: bytes) -> ConversionRequest:
    """Parse the line that requests a conversion.

    Raises:
        msgspec.DecodeError: the line is not a request.
    """
    return _REQUEST.decode(line)


class ConversionRefused(Exception):
    """The adapter cannot be converted exactly; `faults` says why, each beginning with a tensor or field."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


async def convert_isolated(request: ConversionRequest) -> None:
    """Write the verified artifact to `request.out`. The process has ended when this returns, raises or is cancelled.

    Raises:
        ConversionRefused: the adapter cannot be converted exactly, or not within the limits.
        ConvertError: the other process failed.
    """
    limits = request.limits
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.seconds):
            out, err, status = await _answer(process, msgspec.json.encode(request))
    except TimeoutError:
        raise ConversionRefused([f"config: converting took longer than {limits.seconds:g} seconds"]) from None
    finally:
        await _end(process)
    if status == REFUSED:
        raise ConversionRefused(msgspec.json.decode(out, type=list[str]))
    if status == -signal.SIGXCPU:
        raise ConversionRefused([f"config: converting took more than {limits.cpu_seconds} seconds of CPU time"])
    if status:
        last = (err.decode(errors="replace").strip().splitlines() or [f"exit status {status}"])[-1]
        raise ConvertError("conversion", f"failed: {last}")


async def _answer(process: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes, int]:
    """Send the request as one line and return the process's output. Keeps its stdin open: closing it would end it."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process was started without pipes")
    with contextlib.suppress(ConnectionError):  # if it has already exited, its status says why
        process.stdin.write(request + b"\n")
        await process.stdin.drain()
    out, err, status = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
    return out, err, status


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()
