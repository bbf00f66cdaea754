"""Starts the process that checks a job's data, and waits for what it found.

Owns how it is asked and limited. `__main__` is the other side.
"""

import signal
import sys
from pathlib import Path

import msgspec

from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import BaseShape
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_adapters.machine.asked_process import ask_process
from headmix_server.fine_tuning.check.checked import Checked
from headmix_server.fine_tuning.request import FineTuning
from headmix_server.fine_tuning.result import JobError

COMMAND = (sys.executable, "-m", "headmix_server.fine_tuning.check")
CPU_SECONDS = 330
"""A little more than the check itself takes at most, so that it is the check that says which line took too long."""
SECONDS = 1800.0
MEMORY_MIB = 2048
_FILE_MIB = 1


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is asked: a request whose files are in `folder`, and the base with its folder."""

    request: FineTuning
    folder: str
    base_folder: str
    base: BaseShape
    limits: ConversionLimits
    most_labels: int


_REQUEST = msgspec.json.Decoder(CheckRequest)
_CHECKED = msgspec.json.Decoder(Checked)


def decode_check_request(line: bytes) -> CheckRequest:
    """Return the request on a line."""
    return _REQUEST.decode(line)


def check_limits(niceness: int) -> ConversionLimits:
    """Return what the process may use."""
    return ConversionLimits(
        seconds=SECONDS, cpu_seconds=CPU_SECONDS, memory_mib=MEMORY_MIB, file_mib=_FILE_MIB, niceness=niceness
    )


async def check_isolated(
    request: FineTuning, folder: Path, base: ResolvedBase, limits: ConversionLimits, *, most_labels: int
) -> Checked:
    """Return what the check of the files in a folder found. The process has ended when this returns or is cancelled."""
    asked = CheckRequest(
        request=request,
        folder=str(folder),
        base_folder=str(base.folder),
        base=base.shape,
        limits=limits,
        most_labels=most_labels,
    )
    try:
        answer = await ask_process(COMMAND, msgspec.json.encode(asked), seconds=limits.seconds)
    except TimeoutError:
        return _refused(f"checking the data took longer than {limits.seconds:g} seconds")
    if answer.status == 0:
        return _CHECKED.decode(answer.out)
    if answer.status == -signal.SIGXCPU:
        return _refused(f"checking the data took more than {limits.cpu_seconds} seconds of CPU time")
    raise CheckError(answer.last_words)


class CheckError(Exception):
    """The process failed; the message is the last it said."""


def _refused(message: str) -> Checked:
    return Checked(error=JobError(code="invalid_training_file", message=message, param="training_file"))
