"""The numbers in an artifact: read once, in chunks of bounded memory, judged with numpy.

Owns non-finite values and the zero-effect rule. Reads the file rather than mapping it, so that a file that shrinks
meanwhile is a fault and not a dead process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.header import DTYPE_BYTES, TensorEntry
from headmix_adapters.artifact.layout import FLOAT_DTYPES

CHUNK_BYTES = 4 << 20
_BF16_EXPONENT = np.uint16(0x7F80)
_BF16_MAGNITUDE = np.uint16(0x7FFF)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one tensor holds: how many values are not finite (in float32), and whether any is not zero."""

    not_finite: int
    any_nonzero: bool


def check_values(file: BinaryIO, tensors: Mapping[str, TensorEntry], faults: FaultList) -> None:
    """Add a fault for every tensor with a NaN, an infinity or a value beyond float32, and one for zero effect.

    Zero effect is only judged where nothing else is wrong: with a missing or misnamed tensor it cannot be known.
    """
    nonzero: set[str] = set()
    for name, entry in tensors.items():
        if entry.dtype not in FLOAT_DTYPES:
            continue
        scan = _scan(file, entry)
        if scan.not_finite:
            faults.add(f"{scan.not_finite} of its values are not finite in float32", name)
        if scan.any_nonzero:
            nonzero.add(name)
    if not len(faults) and not any(_has_effect(name, nonzero) for name in nonzero):
        faults.add("zero effect: every B and every bias is zero, so it would answer as the bare base does")


def _has_effect(name: str, nonzero: set[str]) -> bool:
    """Whether this non-zero tensor alone, or a B with its A, changes the base's answer."""
    if name in ("classifier.out_proj.weight", "added_tokens.embedding"):
        return True
    prefix, _, tensor = name.rpartition(".")
    if prefix.startswith("classifier."):
        return False
    return tensor == "bias" or (tensor == "B" and f"{prefix}.A" in nonzero)


def _scan(file: BinaryIO, entry: TensorEntry) -> _Scan:
    not_finite, any_nonzero = 0, False
    position = entry.start
    file.seek(position)
    while position < entry.stop:
        data = file.read(min(CHUNK_BYTES, entry.stop - position))
        usable = len(data) - len(data) % DTYPE_BYTES[entry.dtype]
        if not usable:
            raise OSError(f"the file shrank while {entry.name} was read")
        bad, nonzero = _judge(data[:usable], entry.dtype)
        not_finite += bad
        any_nonzero = any_nonzero or nonzero
        position += len(data)
    return _Scan(not_finite, any_nonzero)


def _judge(data: bytes, dtype: str) -> tuple[int, bool]:
    if dtype == "BF16":
        bits = np.frombuffer(data, dtype="<u2")
        not_finite = (bits & _BF16_EXPONENT) == _BF16_EXPONENT
        return int(np.count_nonzero(not_finite)), bool(np.any(bits & _BF16_MAGNITUDE))
    if dtype == "F64":
        doubles = np.frombuffer(data, dtype="<f8")
        # Compared this way round, a NaN counts too.
        return _count(~(np.abs(doubles) <= _FLOAT32_MAX)), bool(np.any(doubles))
    values: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    values = np.frombuffer(data, dtype="<f2") if dtype == "F16" else np.frombuffer(data, dtype="<f4")
    return _count(~np.isfinite(values)), bool(np.any(values))


def _count(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))
