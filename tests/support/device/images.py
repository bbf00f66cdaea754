"""Image tables built directly from artifacts' tensors, for the kernels' tests: the layout in its plainest form."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_adapters.sites import TERMS, iter_terms
from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX, ImageTables

ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Adapter:
    """An artifact's content; `bf16` says how a slot stores it."""

    config: AdapterConfig
    layers: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    bf16: bool = False


class _Arena:
    def __init__(self, dtype: torch.dtype) -> None:
        self._parts: list[Tensor] = [torch.zeros(0, dtype=dtype)]
        self._end = 0

    def append(self, tensor: Tensor) -> int:
        """Store a tensor's numbers at the next aligned position; the gap must never be read."""
        gap = -self._end % ALIGNMENT
        flat = tensor.flatten().to(self._parts[0].dtype)
        self._parts += [flat.new_full((gap,), float("nan")), flat]
        offset = self._end + gap
        self._end = offset + flat.numel()
        return offset

    def flat(self) -> Tensor:
        return torch.cat(self._parts)


def image_tables(base: BaseShape, num_slots: int, adapters: Mapping[int, Adapter]) -> ImageTables:
    """Lay the adapters out by slot; slots without one are all absent."""
    f32, bf16 = _Arena(torch.float32), _Arena(torch.bfloat16)
    offsets = torch.full((num_slots, base.num_layers, len(TERMS), 3), ABSENT, dtype=torch.int64)
    ranks = torch.zeros(num_slots, len(TERMS), dtype=torch.int32)
    scales = torch.ones(num_slots, len(TERMS))
    stored_bf16 = torch.zeros(num_slots, dtype=torch.bool)
    for slot, adapter in adapters.items():
        arena = bf16 if adapter.bf16 else f32
        stored_bf16[slot] = adapter.bf16
        for term in iter_terms(adapter.config.sites):
            index = TERM_INDEX[(term.term.site, term.term.part, term.term.input)]
            ranks[slot, index], scales[slot, index] = term.rank, term.scale
            for layer in adapter.layers:
                name = f"layers.{layer}.{term.prefix}"
                offsets[slot, layer, index, 0] = arena.append(adapter.tensors[f"{name}.A"])
                offsets[slot, layer, index, 1] = arena.append(adapter.tensors[f"{name}.B"].transpose(-1, -2))
                if term.has_bias:
                    offsets[slot, layer, index, 2] = arena.append(adapter.tensors[f"{name}.bias"])
    return ImageTables(base, f32.flat(), bf16.flat(), offsets, ranks, scales, stored_bf16)
