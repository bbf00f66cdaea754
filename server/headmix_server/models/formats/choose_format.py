"""Choosing the format in which to load a base: by what is requested, what torch supports and what is fast here.

The choice between plain and packed products is measured at every start on one matrix, which takes some milliseconds: of
the five matrices of a 135M base at 1 to 512 rows, packing was slower for none on the machines tried, so there is no
table by shape. A start on a busy machine must not determine a server's speed for its lifetime, so packing is given up
only if it is clearly slower.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.quantize import best_quantizer, native_quantize_rows, quantize_rows
from headmix_server.kernels.stored.bfloat16 import Unit, available_units
from headmix_server.kernels.stored.products import code_unit
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.int8_linear import MakeInt8, int8_linear, native_int8_linear
from headmix_server.models.formats.linear import Linear, PlainLinear
from headmix_server.models.formats.linear_format import (
    BFloat16Format,
    Int8Format,
    LinearFormat,
    PackedFormat,
    PlainFormat,
    RoundedFormat,
    StoredFormat,
)
from headmix_server.models.formats.packed_linear import pack_linear
from headmix_server.models.formats.stored_linear import StoredMatrix, stored_linear
from headmix_server.models.formats.torchao import TorchaoFormat

CPU = torch.device("cpu")
PROBE_OUT, PROBE_IN = 2048, 1024
PROBE_ROWS = (1, 32)
PROBE_RUNS = 15
CLEARLY_SLOWER = 1.5
TOLERANCE = 1e-4
INT8_TOLERANCE = 0.03
ROUNDED = "--dtype bfloat16 keeps every matrix in bfloat16"

_log = get_logger("models")


Quantize = Literal["none", "int8", "fp8"]
Weights = Literal["auto", "stored", "float32"]


def choose_format(
    dtype: torch.dtype, quantize: Quantize = "none", device: torch.device = CPU, kinds: Collection[str] = ()
) -> LinearFormat:
    """Return the format for a base whose matrices are multiplied in `dtype` on a device.

    `kinds` are the kinds of the checkpoint's matrices to keep as they are stored.

    Raises:
        UnsupportedModelError: the requested quantisation is unavailable here.
    """
    form = _choose(dtype, quantize, device)
    form = StoredFormat(form) if kinds else form
    _log.info("matrix products", format=form.name)
    if kinds:
        floats = "AMX" if Unit.AMX in available_units() else "FLOAT32"
        _log.info("stored products", codes=code_unit().name, bfloat16=floats)
    return form


def stored_fault(dtype: torch.dtype, quantize: Quantize, device: torch.device) -> str:
    """Return why weights cannot be kept as they are stored here, or an empty string."""
    if quantize != "none":
        return f"--quantize {quantize} changes them"
    if dtype == torch.bfloat16 and device == CPU:
        return ROUNDED
    fault = _placement_fault(dtype, device)
    return fault or ("" if load_native() else "there are no native kernels on this machine")


def _placement_fault(dtype: torch.dtype, device: torch.device) -> str:
    """Return why a format that computes in float32 on a CPU is unavailable here, or an empty string."""
    if device != CPU:
        return f"it computes on a CPU, not on {device}"
    return "" if dtype == torch.float32 else f"it computes in float32, not in {dtype}"


def choose_kinds(wanted: Weights, kinds: Collection[str], fault: str) -> Collection[str]:
    """Return which kinds of stored weights to keep as they are: all, or none if float32 is requested or faster.

    `fault` is the result of `stored_fault`. The choice and its reason are logged.

    Raises:
        UnsupportedModelError: stored weights are requested but unavailable here.
    """
    if wanted == "stored" and fault:
        raise UnsupportedModelError(f"--weights stored is not served here: {fault}")
    keep, reason = _why_keep(wanted, kinds, fault)
    kept = "stored" if keep else "bfloat16" if fault == ROUNDED else "unpacked"
    _log.info("weights", kept=kept, kinds=sorted(kinds), reason=reason)
    return kinds if keep else ()


def _why_keep(wanted: Weights, kinds: Collection[str], fault: str) -> tuple[bool, str]:
    if wanted == "float32" or fault:
        return False, fault or "--weights float32"
    if not kinds:
        return False, "the checkpoint stores nothing narrower that is multiplied as stored"
    if wanted == "stored":
        return True, "--weights stored"
    slow = _stored_slowness()
    return not slow, slow or "the checkpoint stores them so, and products with them are as fast"


@torch.inference_mode()
def _stored_slowness() -> str:
    """Return how much slower products with stored weights are than packed float32 ones; empty if not clearly slower."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(PROBE_OUT, PROBE_IN, generator=generator).bfloat16()
    inputs = [torch.randn(rows, PROBE_IN, generator=generator) for rows in PROBE_ROWS]
    stored = stored_linear([StoredMatrix("BF16", weight)])
    try:
        packed: Linear = pack_linear(weight.float())
    except (AttributeError, RuntimeError, NotImplementedError):
        packed = PlainLinear(weight.float())
    return _slowness(stored, packed, inputs)


def _choose(dtype: torch.dtype, quantize: Quantize, device: torch.device) -> LinearFormat:
    if quantize != "none" and device.type == "cuda":
        return TorchaoFormat(quantize, device)
    if quantize == "fp8":
        raise UnsupportedModelError("--quantize fp8 is not served here: it needs a GPU")
    if quantize == "int8":
        if fault := _int8_fault(dtype, device):
            raise UnsupportedModelError(f"--quantize int8 is not served here: {fault}")
        return Int8Format(best_quantizer(), _choose_int8())
    if device != CPU:
        return PlainFormat()
    if dtype == torch.bfloat16:
        return _choose_bfloat16()
    if fault := _packing_fault():
        _log.warning("packed matmul unavailable, falling back to plain", reason=fault)
        return PlainFormat()
    return PackedFormat()


def _choose_bfloat16() -> LinearFormat:
    if not load_native():
        _log.warning("bfloat16 products", by="torch", reason="there are no native kernels on this machine")
        return RoundedFormat()
    unit = choose_unit(available_units())
    _log.info("bfloat16 products", by="float32" if unit is None else unit.name)
    return BFloat16Format(unit)


@torch.inference_mode()
def choose_unit(units: Unit) -> Unit | None:
    """Return the processor's unit to multiply bfloat16 with.

    AMX is several times as fast as the others; on some processors `vdpbf16ps` is no faster than float32. None means
    that the processor has no such unit, or that float32 products of the same weights are clearly faster.
    """
    if Unit.AMX in units or not units:
        return Unit.AMX & units or None
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(PROBE_OUT, PROBE_IN, generator=generator)
    inputs = [torch.randn(rows, PROBE_IN, generator=generator) for rows in PROBE_ROWS]
    rounded, exact = (BFloat16Format(unit).linear(weight) for unit in (Unit.AVX512_BF16, None))
    slow = _slowness(rounded, exact, inputs)
    if slow:
        _log.info("bfloat16 products are slow", by=Unit.AVX512_BF16.name, reason=slow)
    return None if slow else Unit.AVX512_BF16


@torch.inference_mode()
def _packing_fault() -> str:
    """Return why not to pack products (unavailable, wrong results, or clearly slower), or an empty string."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(PROBE_OUT, PROBE_IN, generator=generator)
    inputs = [torch.randn(rows, PROBE_IN, generator=generator) for rows in PROBE_ROWS]
    plain = PlainLinear(weight)
    try:
        packed = pack_linear(weight)
        errors = [float((packed(x) - plain(x)).abs().max()) for x in inputs]
    except (AttributeError, RuntimeError, NotImplementedError) as error:  # an unsupported build of torch or processor
        return f"{type(error).__name__}: {error}"
    if max(errors) > TOLERANCE * PROBE_IN**0.5:
        return f"they differ from plain ones by {max(errors):.1e}"
    return _slowness(packed, plain, inputs)


def _slowness(product: Linear, other: Linear, inputs: Sequence[Tensor]) -> str:
    """Return how much slower a product is than another; empty if it is not clearly slower."""
    taken, others = (sum(times) for times in zip(*(_best((product, other), x) for x in inputs), strict=True))
    slow = taken > CLEARLY_SLOWER * others
    return f"they take {taken * 1e6:.0f} us where {type(other).__name__} takes {others * 1e6:.0f}" if slow else ""


@torch.inference_mode()
def _int8_fault(dtype: torch.dtype, device: torch.device) -> str:
    """Return why int8 products are unavailable here, or an empty string."""
    if fault := _placement_fault(dtype, device):
        return fault
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(rows, PROBE_IN, generator=generator) for rows in (64, 3))
    exact = PlainLinear(weight)(x)
    try:
        error = float((int8_linear(weight, None, quantize_rows)(x) - exact).norm() / exact.norm())
    except (AttributeError, RuntimeError, NotImplementedError) as reason:
        return f"{type(reason).__name__}: {reason}"
    return f"products err by {error:.1%}" if error > INT8_TOLERANCE else ""


@torch.inference_mode()
def _choose_int8() -> MakeInt8:
    """Return the native product if the processor has its instructions and oneDNN's is not clearly faster."""
    reason = "the processor lacks its instructions"
    if load_native() and torch.ops.headmix.int8_is_fast():
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(PROBE_OUT, PROBE_IN, generator=generator)
        inputs = [torch.randn(rows, PROBE_IN, generator=generator) for rows in PROBE_ROWS]
        native, other = (make(weight, None, native_quantize_rows) for make in (native_int8_linear, int8_linear))
        reason = _slowness(native, other, inputs)
    _log.info("int8 products", by="oneDNN" if reason else "native", reason=reason)
    return int8_linear if reason else native_int8_linear


def _best(products: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> list[float]:
    """Return each product's minimum time in seconds, measured in turns: it excludes delays by other processes."""
    best = [math.inf] * len(products)
    for _ in range(PROBE_RUNS):
        for place, product in enumerate(products):
            began = time.perf_counter()
            product(x)
            best[place] = min(best[place], time.perf_counter() - began)
    return best
