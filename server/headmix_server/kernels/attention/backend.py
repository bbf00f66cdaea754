"""The choice of the implementation that computes a step's attention, made once from what the device supports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.attention.native import NativePagedAttention, NativeWholeAttention
from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout
from headmix_server.kernels.attention.torch_sdpa import PagedAttention, StepAttention, WholeAttention
from headmix_server.kernels.native.loading import load_native

Caches = Sequence[tuple[Tensor, Tensor]]
"""Every layer's keys and values [places, G, P]."""


@dataclass(frozen=True, slots=True)
class AttentionBackend:
    """One implementation's causal step over caches and bidirectional step over whole texts."""

    name: str
    paged: Callable[[Caches, StepLayout, BlockTable], StepAttention]
    whole: Callable[[StepLayout], StepAttention]


TORCH = AttentionBackend("torch", PagedAttention, WholeAttention)
NATIVE = AttentionBackend("native", NativePagedAttention, NativeWholeAttention)


def choose_attention(device: torch.device, dtype: torch.dtype) -> AttentionBackend:
    """Return the fastest implementation on the device for keys and values of this dtype."""
    backend = NATIVE if device.type == "cpu" and dtype == torch.float32 and load_native() else TORCH
    get_logger("device").info("attention", by=backend.name)
    return backend
