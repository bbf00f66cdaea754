"""The numbers in an artifact: read once in chunks of bounded size and checked with numpy as the float32 they become.

Owns the check for non-finite values and the zero-effect rule. Reads the file rather than mapping it, so that a file
that shrinks in the meantime is a fault and not a dead process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from headmix_adapters.artifact.checks.layout import FLOAT_DTYPES, term_of
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.header import DTYPE_BYTES, TensorEntry
from headmix_adapters.artifact.limits import FLOAT32_MAX, FLOAT32_SMALLEST

CHUNK_BYTES = 4 << 20
_BF16_EXPONENT = np.uint16(0x7F80)
_BF16_MAGNITUDE = np.uint16(0x7FFF)


@dataclass(frozen=True, slots=True)
class _Scan:
    """What a tensor contains: how many values are not finite in float32, and the largest magnitude of the others."""

    not_finite: int
    largest: float


def check_values(
    file: BinaryIO, tensors: Mapping[str, TensorEntry], faults: FaultList, *, scales: Mapping[str, float]
) -> None:
    """Add a fault for every tensor with a NaN, an infinity or a value beyond float32, and one for zero effect.

    `scales` has the factor of each term (`q.head`), which multiplies its B and bias. Zero effect is only checked if
    nothing else is wrong: with a missing or misnamed tensor it cannot be determined.
    """
    nonzero: set[str] = set()
    for name, entry in tensors.items():
        if entry.dtype not in FLOAT_DTYPES:
            continue
        scan, scale = _scan(file, entry), _scale(name, scales)
        if scan.not_finite:
            faults.add(f"{scan.not_finite} of its values are not finite in float32", name)
        elif scan.largest * scale > FLOAT32_MAX:
            faults.add(f"values up to {scan.largest:.4g} times its scale of {scale:g} are not finite in float32", name)
        if min(scan.largest, scan.largest * scale) >= FLOAT32_SMALLEST:
            nonzero.add(name)
    if not len(faults) and not any(_has_effect(name, nonzero) for name in nonzero):
        faults.add("zero effect: every B and every bias is zero in float32, so it would answer like the base alone")


def _scale(name: str, scales: Mapping[str, float]) -> float:
    """Return the magnitude of the factor applied to a tensor's values, or 1 if that factor is refused elsewhere."""
    term = term_of(name)
    scale = 1.0 if term is None or name.endswith(".A") else abs(scales.get(term, 1.0))
    return scale if FLOAT32_SMALLEST <= scale <= FLOAT32_MAX else 1.0


def _has_effect(name: str, nonzero: set[str]) -> bool:
    """Return whether this non-zero tensor, alone or as a B together with its A, changes the base's answer."""
    if name in ("classifier.out_proj.weight", "added_tokens.embedding"):
        return True
    prefix, _, tensor = name.rpartition(".")
    if prefix.startswith("classifier."):
        return False
    return tensor == "bias" or (tensor == "B" and f"{prefix}.A" in nonzero)


def _scan(file: BinaryIO, entry: TensorEntry) -> _Scan:
    not_finite, largest = 0, 0.0
    position = entry.start
    file.seek(position)
    while position < entry.stop:
        data = file.read(min(CHUNK_BYTES, entry.stop - position))
        usable = len(data) - len(data) % DTYPE_BYTES[entry.dtype]
        if not usable:
            raise OSError(f"the file shrank while {entry.name} was read")
        chunk = _judge(data[:usable], entry.dtype)
        not_finite += chunk.not_finite
        largest = max(largest, chunk.largest)
        position += len(data)
    return _Scan(not_finite, largest)


def _judge(data: bytes, dtype: str) -> _Scan:
    if dtype == "BF16":
        return _judge_bf16(np.frombuffer(data, dtype="<u2"))
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    if dtype == "F64":
        values = np.frombuffer(data, dtype="<f8")
    else:
        values = np.frombuffer(data, dtype="<f2" if dtype == "F16" else "<f4").astype(np.float32, copy=False)
    magnitudes = np.abs(values)
    # `<=` is false for NaN, so NaNs count as not finite too.
    finite = magnitudes <= FLOAT32_MAX
    return _Scan(_count(~finite), float(magnitudes[finite].max(initial=0)))


def _judge_bf16(bits: npt.NDArray[np.uint16]) -> _Scan:
    finite = (bits & _BF16_EXPONENT) != _BF16_EXPONENT
    largest = np.uint32((bits & _BF16_MAGNITUDE)[finite].max(initial=0)) << np.uint32(16)
    return _Scan(_count(~finite), float(np.uint32(largest).view(np.float32)))


def _count(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))
