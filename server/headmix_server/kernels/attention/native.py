"""Attention on the CPU by the native operations: one call per layer for the whole ragged batch, without gathering.

Keys and values are read in place: through the block table, or in the step's own projections. Tested against
`kernels.attention.torch_sdpa`. Needs `kernels.native` loaded.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout
from headmix_server.kernels.attention.torch_sdpa import refuse_window


class NativePagedAttention:
    """See `kernels.attention.torch_sdpa.PagedAttention`; everything is float32 on the CPU, heads contiguous in a row.

    Anything else, and a table that points outside the cache, makes `attend` raise RuntimeError with nothing written.
    `caches` and `layout` are arguments of the native operations.
    """

    def __init__(self, caches: Sequence[tuple[Tensor, Tensor]], layout: StepLayout, table: BlockTable) -> None:
        self.caches = caches
        self.layout = (layout.rows, layout.starts, table.blocks, table.block_size)
        self._op = torch.ops.headmix.attend_paged

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`."""
        if window is not None and window < 1:
            raise ValueError(f"layer {layer}: a window of {window}")
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        self._op(q, k, v, *self.caches[layer], *self.layout, scale, window or 0, out)
        return out


class NativeWholeAttention:
    """See `kernels.attention.torch_sdpa.WholeAttention`; the requirements are those of `NativePagedAttention`."""

    def __init__(self, layout: StepLayout) -> None:
        self._rows = layout.rows
        self._op = torch.ops.headmix.attend_whole

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`; windows are not supported."""
        refuse_window(layer, window)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        self._op(q, k, v, self._rows, scale, out)
        return out
