"""What a runner on a GPU is made of, where it differs from the CPU's.

Reads sizes off the device once, at start. Imports Triton and the attention library only when called.
"""

import importlib.util

import torch

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.core.logging import get_logger
from headmix_server.device.fixed_storage import FixedStorage
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement, PlacementError
from headmix_server.device.replay import CudaGraphReplay, GraphPool, Replay
from headmix_server.device.static_decode import StaticDecode
from headmix_server.device.static_step import StaticStep, StepShape
from headmix_server.device.transfer import StreamTransfer
from headmix_server.kernels.static_attention import GatherAttention
from headmix_server.kernels.triton.needs import z_width
from headmix_server.models.model import Model

CACHE_SHARE = 0.85
"""Of the memory that is free once base and adapters are there; the rest is for activations and captured graphs."""


def make_cuda_storage(
    base: BaseShape, num_slots: int, memory_mib: int, max_rank: int, placement: Placement
) -> FixedStorage:
    """Make the slots of a GPU.

    Raises:
        PlacementError: Triton is not installed, or the memory for adapters is not to be had.
    """
    if importlib.util.find_spec("triton") is None:
        raise PlacementError("adapters on CUDA need Triton: pip install triton")
    from headmix_server.kernels.triton.adapters import TritonAdapters

    try:
        return FixedStorage(
            base,
            num_slots,
            capacity=memory_mib * 2**20 // placement.dtype.itemsize,
            longest_row=z_width(base, dict.fromkeys(TERMS, max_rank)),
            dtype=placement.dtype,
            device=placement.device,
            transfer=StreamTransfer(placement.device),
            make_step=TritonAdapters,
        )
    except torch.OutOfMemoryError as error:
        raise PlacementError(f"the GPU has no {memory_mib} MiB for adapters: {error}") from error


def free_cache_bytes(device: torch.device) -> int:
    """Return how much memory the key/value cache may take on a GPU that holds the base and the adapters."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * CACHE_SHARE)


def make_cuda_decode(
    model: Model, storage: FixedStorage, memory: KVMemory, longest: int, scratch_block: int, placement: Placement
) -> StaticDecode:
    """Make the captured decode steps; `longest` are the most blocks of a sequence, `scratch_block` nobody's."""
    pool = GraphPool(torch.cuda.graph_pool_handle())
    log = get_logger("device")

    def make_step(shape: StepShape) -> StaticStep:
        attention = GatherAttention(memory.layers, memory.block_size, shape.rows, shape.blocks)
        return StaticStep(model, storage, attention, shape, scratch_block, placement.device)

    def make_replay(step: StaticStep) -> Replay:
        log.debug("capturing a decode step")
        return CudaGraphReplay(step, pool)

    return StaticDecode(storage, memory.block_size, longest, make_step, make_replay)
