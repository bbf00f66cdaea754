"""The parts of a GPU runner that differ from those of the CPU.

Reads sizes from the device once, at startup. Imports Triton and the attention library only when called.
"""

import importlib
import importlib.util
from functools import partial
from types import ModuleType

import torch

from headmix_adapters.artifact import Limits
from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.core.observability.logging import get_logger
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.graph_replay import CudaGraphReplay, GraphPool, Replay
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.cuda.static_step import StaticStep, StepShape
from headmix_server.device.cuda.transfer import StreamTransfer
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement, PlacementError
from headmix_server.kernels.attention.backend import TORCH, AttentionBackend
from headmix_server.kernels.attention.flashinfer import (
    HEAD_SIZES,
    WORKSPACE_BYTES,
    FlashInferAttention,
    Kind,
    Wrapper,
)
from headmix_server.kernels.triton.needs import z_width
from headmix_server.models.model import Model

CACHE_SHARE = 0.85
"""Fraction of the memory left by the base and the adapters; the rest is for activations and captured graphs."""


def make_cuda_storage(
    base: BaseShape, num_slots: int, memory_mib: int, max_rank: int, placement: Placement
) -> FixedStorage:
    """Make the slots of a GPU.

    Raises:
        PlacementError: Triton is not installed, or the memory for adapters is not available.
    """
    limits = Limits(max_rank=max_rank)
    if importlib.util.find_spec("triton") is None:
        raise PlacementError("adapters on a GPU need Triton: pip install 'headmix[cuda]'")
    from headmix_server.kernels.triton.adapters import TritonAdapters

    try:
        return FixedStorage(
            base,
            num_slots,
            capacity=memory_mib * 2**20 // placement.dtype.itemsize,
            longest_row=z_width(base, {term: limits.most_rank(term[0]) for term in TERMS}),
            dtype=placement.dtype,
            device=placement.device,
            transfer=StreamTransfer(placement.device),
            make_step=TritonAdapters,
        )
    except torch.OutOfMemoryError as error:
        raise PlacementError(f"the GPU has no {memory_mib} MiB for adapters: {error}") from error


def free_bytes(device: torch.device) -> int:
    """Return how much of a GPU's memory is free."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def free_cache_bytes(device: torch.device) -> int:
    """Return how much memory the key/value cache may take on a GPU that already holds the base and the adapters."""
    return int(free_bytes(device) * CACHE_SHARE)


class FlashInfer:
    """The installed library: its wrappers on one device, which share a workspace."""

    def __init__(self, module: ModuleType, device: torch.device) -> None:
        self._module = module
        self._workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
        self._prefill: dict[Kind, Wrapper] = {}

    def prefill_wrapper(self, kind: Kind) -> Wrapper:
        """Return the wrapper that ragged steps use for layers of one kind."""
        if kind not in self._prefill:
            self._prefill[kind] = self._module.BatchPrefillWithPagedKVCacheWrapper(self._workspace, "NHD")
        return self._prefill[kind]


def find_flashinfer(head_dim: int, placement: Placement) -> FlashInfer | None:
    """Return FlashInfer if it is installed and has kernels for these heads and this type, else None."""
    if fault := _flashinfer_fault(head_dim, placement.dtype):
        get_logger("device").info("FlashInfer is not used", reason=fault)
        return None
    return FlashInfer(importlib.import_module("flashinfer"), placement.device)


def _flashinfer_fault(head_dim: int, dtype: torch.dtype) -> str:
    """Return why FlashInfer cannot compute this base's attention; empty if it can."""
    if head_dim not in HEAD_SIZES:
        return f"it has no kernels for heads of {head_dim}"
    if dtype != torch.bfloat16:
        return f"its kernels compute in bfloat16, not in {dtype}"
    return "" if importlib.util.find_spec("flashinfer") else "it is not installed: pip install 'headmix[cuda]'"


def attention_backend(library: FlashInfer | None) -> AttentionBackend:
    """Return the backend that computes attention in steps that are not captured."""
    backend = TORCH
    if library is not None:
        backend = AttentionBackend("flashinfer", partial(FlashInferAttention, library.prefill_wrapper), backend.whole)
    get_logger("device").info("attention", by=backend.name)
    return backend


def make_cuda_decode(model: Model, storage: FixedStorage, memory: KVMemory, longest: int) -> StaticDecode:
    """Make the captured decode steps; `longest` is the maximum number of blocks of a sequence.

    The memory's last block is reserved for them: their padding writes there.
    """
    from headmix_server.kernels.triton.decode_attention import TritonDecodeAttention

    pool = GraphPool(torch.cuda.graph_pool_handle())
    log = get_logger("device")
    device = memory.layers[0][0].device
    log.info("attention of captured steps", by="triton")

    def make_step(shape: StepShape) -> StaticStep:
        attention = TritonDecodeAttention(memory.layers, memory.block_size, shape.rows, shape.blocks)
        return StaticStep(model, storage, attention, shape, memory.num_blocks - 1, device)

    def make_replay(step: StaticStep) -> Replay:
        log.debug("capturing a decode step")
        return CudaGraphReplay(step, pool)

    return StaticDecode(storage, memory.block_size, longest, make_step, make_replay)
