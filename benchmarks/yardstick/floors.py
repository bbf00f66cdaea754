"""The best this machine allows: its measured bandwidth and peak, and the time for a workload's bytes and flops.

The floors count only the products with the base's and the adapters' weights: no attention, no norms, no sampling, no
Python.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open

from headmix_adapters.base import weight_files

REPEATS = 5
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """Measured: bytes read from memory per second, and operations per second in products (two per multiply-add)."""

    bandwidth: float
    float32: float
    int8: float
    bfloat16: float | None = None

    def peak(self, form: str) -> float:
        """Return the operations per second in a form; if bfloat16 was not measured, float32's figure."""
        return {"float32": self.float32, "bfloat16": self.bfloat16 or self.float32, "int8": self.int8}[form]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights multiplied for every token (`layers`), and for every token whose scores are needed (`head`)."""

    layers: int
    head: int


def measure_ceilings(mib: int, side: int) -> Ceilings:
    """Measure with a matrix of `mib` MiB times a vector, and products of `side` x `side` matrices."""
    columns = 1024
    tall = torch.ones(mib * 2**18 // columns, columns)
    vector = torch.ones(columns)
    square = torch.randn(side, side)
    return Ceilings(
        bandwidth=max(tall.numel() * 4 / _best(lambda: tall.mv(vector)), tall.numel() * 4 / _best(tall.sum)),
        float32=2 * side**3 / min(_best(lambda: square.mm(square)), _best(_packed_product(square))),
        int8=2 * side**3 / _best(_int8_product(side)),
        bfloat16=2 * side**3 / _best(_bfloat16_product(square)),
    )


def _packed_product(square: torch.Tensor) -> Callable[[], object]:
    """Return the product with weights packed by oneDNN, which is faster than torch's plain one on some CPUs."""
    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(square, len(square))  # noqa: SLF001 - torch's own packing has no public name
    return lambda: ops._linear_pointwise(square, packed, None, "none", [], "")  # noqa: SLF001


def _bfloat16_product(square: torch.Tensor) -> Callable[[], object]:
    halves = square.bfloat16()
    return lambda: halves.mm(halves)


def _int8_product(side: int) -> Callable[[], object]:
    weights = torch.randint(-127, 127, (side, side), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weights, None)
    inputs = torch.randint(0, 255, (side, side), dtype=torch.uint8)
    scales, zeros = torch.ones(side), torch.zeros(side, dtype=torch.int64)
    arguments: tuple[object, ...] = (inputs, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(*arguments)


def _best(run: Callable[[], object]) -> float:
    """Return the minimum of a few runs: a ceiling is what the machine can do when nothing else interferes."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def count_weights(folder: Path) -> Weights:
    """Read a checkpoint's headers; the embedding is the head if there is no other."""
    sizes: dict[str, int] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                shape = tensors.get_slice(name).get_shape()
                if len(shape) == 2:
                    sizes[name] = shape[0] * shape[1]
    embedding = sum(size for name, size in sizes.items() if "embed_tokens" in name)
    head = sum(size for name, size in sizes.items() if name.startswith("lm_head"))
    return Weights(layers=sum(sizes.values()) - embedding - head, head=head or embedding)


def generation_floor(
    ceilings: Ceilings,
    weights: Weights,
    *,
    requests: int,
    prompt: int,
    output: int,
    adapters: int = 0,
    adapter_weights: int = 0,
    form: str = "float32",
    weight_bytes: float | None = None,
) -> float:
    """Return the minimum seconds for concurrent `requests`: one prefill of all prompts, then output - 1 decode steps.

    The base is computed in `form` and its weights are read in it, unless `weight_bytes` gives the bytes of each; an
    adapter's weights are read in bfloat16 and multiplied in float32.
    """
    peak = ceilings.peak(form)
    adapted = adapter_weights if adapters else 0
    read = (weights.layers + weights.head) * (weight_bytes or WEIGHT_BYTES[form]) + adapters * adapter_weights * 2
    extra = 2 * adapted / ceilings.float32  # seconds per row

    def step(rows: int) -> float:
        computing = 2 * (weights.layers * rows + weights.head * requests) / peak + rows * extra
        return max(computing, read / ceilings.bandwidth)

    return step(requests * prompt) + (output - 1) * step(requests)
