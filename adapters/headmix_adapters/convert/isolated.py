"""Conversion of a PEFT LoRA in a process of its own, for callers that must not load torch (the API process).

Owns the request and the way its faults come back. The work itself is `__main__`'s, in the other process; a time limit
ends what hostile patterns or sizes would prolong.
"""

import subprocess
import sys
from pathlib import Path

import msgspec

from headmix_adapters.config import BaseShape, Problem
from headmix_adapters.convert.errors import ConvertError

REFUSED = 3
"""The exit status of a conversion that was refused, its reasons on standard output as a JSON list."""


class ConversionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PEFT LoRA given as its two files: the path of the weights, the text of adapter_config.json.

    `labels` and `problem` are for a classification head; None takes transformers' defaults. `allow_base_mismatch`
    accepts a base whose tokenizer transformers reads differently.
    """

    weights: str
    config: str
    out: str
    base_folder: str
    base: BaseShape
    labels: tuple[str, ...] | None = None
    problem: Problem | None = None
    allow_base_mismatch: bool = False


class ConversionRefused(Exception):
    """The adapter cannot be converted exactly; `faults` says why, each beginning with a tensor or field."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


def convert_isolated(request: ConversionRequest, *, timeout: float) -> None:
    """Write the artifact to `request.out`, verified.

    Raises:
        ConversionRefused: it cannot be converted exactly, or not within `timeout` seconds.
        ConvertError: the other process failed.
    """
    command = [sys.executable, "-m", "headmix_adapters.convert"]
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(request), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConversionRefused([f"config: converting took longer than {timeout:g} seconds"]) from None
    if done.returncode == REFUSED:
        raise ConversionRefused(msgspec.json.decode(done.stdout, type=list[str]))
    if done.returncode or not Path(request.out).is_file():
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ConvertError("conversion", f"failed: {last}")
