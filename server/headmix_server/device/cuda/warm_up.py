"""What a GPU does before its first request: compile the kernels and capture the decode steps.

Triton and FlashInfer compile a kernel when it first runs, which takes seconds; a capture takes about 50 ms. Without the
warm-up, requests would wait for both. The results are written to the cache's scratch block, which nobody reads.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headmix_server.core.observability.logging import get_logger
from headmix_server.device.cuda.fixed_storage import DECODE_HEIGHT, PREFILL_HEIGHT, FixedStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.kv_memory import KVMemory
from headmix_server.kernels.attention.backend import AttentionBackend
from headmix_server.kernels.attention.step_layout import lay_out, tabulate_blocks
from headmix_server.models.model import Model


@dataclass(frozen=True, slots=True)
class _ScratchSpan:
    """A prompt that fills the scratch block; see `kernels.attention.step_layout.Span`."""

    start: int
    count: int
    blocks: Sequence[int]


@torch.inference_mode()
def warm_up(
    model: Model,
    memory: KVMemory,
    storage: FixedStorage,
    decode: StaticDecode,
    attention: AttentionBackend,
    most_rows: int,
) -> None:
    """Run each kind of prefill once and capture the decode steps of up to `most_rows` rows; logs the durations."""
    began = time.monotonic()
    _prefill(model, memory, storage, attention)
    prefilled = time.monotonic()
    decode.warm_up(most_rows)
    get_logger("device").info(
        "warmed up",
        captured_steps=decode.num_ready,
        prefill_seconds=round(prefilled - began, 1),
        capture_seconds=round(time.monotonic() - prefilled, 1),
    )


def _prefill(model: Model, memory: KVMemory, storage: FixedStorage, attention: AttentionBackend) -> None:
    """Fill the scratch block without adapters and with each tile height, and score the last position."""
    rows = memory.block_size
    span = _ScratchSpan(0, rows, (memory.num_blocks - 1,))
    layout = lay_out([span])
    table = tabulate_blocks([span], memory.block_size, memory.num_blocks)
    device = memory.layers[0][0].device
    tokens, positions = torch.zeros(rows, dtype=torch.int64, device=device), layout.positions().to(device)
    for adapters in (None, *(storage.blank_step(rows, height) for height in (DECODE_HEIGHT, PREFILL_HEIGHT))):
        hidden = model.forward(tokens, positions, attention.paged(memory.layers, layout, table), adapters)
        model.logits(hidden[-1:]).sum().item()  # waits for the device, so that the logged time is right
