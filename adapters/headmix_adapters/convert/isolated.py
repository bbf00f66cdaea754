"""Conversion of a PEFT LoRA in its own process, for callers that must not load torch (the API process).

Owns the request and how its faults are returned. `__main__` does the work, in the other process; `confinement` limits
its resources.
"""

import signal
import sys

import msgspec

from headmix_adapters.config import BaseShape, Problem
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.machine.asked_process import ask_process

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
    try:
        answer = await ask_process(COMMAND, msgspec.json.encode(request), seconds=limits.seconds)
    except TimeoutError:
        raise ConversionRefused([f"config: converting took longer than {limits.seconds:g} seconds"]) from None
    if answer.status == REFUSED:
        raise ConversionRefused(msgspec.json.decode(answer.out, type=list[str]))
    if answer.status == -signal.SIGXCPU:
        raise ConversionRefused([f"config: converting took more than {limits.cpu_seconds} seconds of CPU time"])
    if answer.status:
        raise ConvertError("conversion", f"failed: {answer.last_words}")
