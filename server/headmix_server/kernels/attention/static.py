"""Decode attention with fixed shapes and addresses, so that a captured graph of it can be replayed.

One row per sequence. Everything that differs from step to step is in buffers that are written before each step.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headmix_server.kernels.adapters.fixed_numbers import FixedNumbers
from headmix_server.kernels.attention.torch_sdpa import spoil_broken_rows


class StaticAttention(Protocol):
    """A `StepAttention` for a fixed number of rows and a maximum context."""

    def fill(self, positions: Sequence[int], blocks: Sequence[Sequence[int]]) -> None:
        """Write the rows' positions and their sequences' cache blocks into the buffers; not captured."""
        ...

    def begin(self) -> None:
        """Prepare what all layers share from the buffers; captured, runs once per step."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `kernels.attention.torch_sdpa.StepAttention`."""
        ...


class RowTables:
    """The rows' positions and their sequences' cache blocks, at fixed addresses on the device."""

    def __init__(self, rows: int, blocks: int, device: torch.device) -> None:
        self._shape = (rows, blocks)
        self._numbers = FixedNumbers(rows + rows * blocks, device)
        self._lengths = [0] * rows  # how many blocks of each row are staged
        self._staged = self._numbers.staged[rows:].reshape(rows, blocks)
        self.positions = self._numbers.on_device[:rows]  # [rows] int32
        self.blocks = self._numbers.on_device[rows:].view(rows, blocks)  # [rows, blocks] int32; 0 beyond a row's own

    def write(self, positions: Sequence[int], blocks: Sequence[Sequence[int]]) -> None:
        """Write positions and blocks.

        Raises:
            ValueError: the number of rows is wrong, or a row has more blocks than fit.
        """
        rows, width = self._shape
        if len(positions) != rows or max(map(len, blocks)) > width:
            raise ValueError(f"{len(positions)} rows of up to {max(map(len, blocks))} blocks for {rows} of {width}")
        self._numbers.staged[:rows] = positions
        for row, own in enumerate(blocks):
            length = len(own)
            self._staged[row, :length] = own
            self._staged[row, length : self._lengths[row]] = 0
            self._lengths[row] = length
        self._numbers.send()


class ReferenceStaticAttention:
    """See `StaticAttention`: torch's own product over as many places as the maximum context, gathered and masked.

    `caches` are every layer's keys and values [places, G, P] in blocks of `block_size` places. Past a sequence's end
    its last place is gathered again: masked places are still multiplied, so they must be the sequence's own.
    """

    def __init__(
        self,
        caches: Sequence[tuple[Tensor, Tensor]],
        block_size: int,
        rows: int,
        blocks: int,
    ) -> None:
        keys = caches[0][0]
        self._caches = caches
        self._block_size = block_size
        self._rows = rows
        self._dtype = keys.dtype
        self._tables = RowTables(rows, blocks, keys.device)
        self._context = torch.arange(blocks * block_size, device=keys.device)  # [context]
        self._places = self._context  # [rows * context] after `begin`
        self._writes = self._context  # [rows]
        self._masks: dict[int | None, Tensor] = {}

    def fill(self, positions: Sequence[int], blocks: Sequence[Sequence[int]]) -> None:
        """See `StaticAttention`."""
        self._tables.write(positions, blocks)

    def begin(self) -> None:
        """See `StaticAttention`."""
        positions, blocks = self._tables.positions.long(), self._tables.blocks.long()
        seen = torch.minimum(self._context, positions[:, None])  # [rows, context]
        places = blocks.gather(1, seen // self._block_size) * self._block_size + seen % self._block_size
        self._writes = places[:, -1].contiguous()
        self._places = places.flatten()
        self._positions = positions
        self._masks = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StaticAttention`."""
        keys, values = self._caches[layer]
        keys.index_copy_(0, self._writes, k)
        values.index_copy_(0, self._writes, v)
        rows = self._rows
        key = keys.index_select(0, self._places).view(rows, -1, *keys.shape[1:]).transpose(1, 2)
        value = values.index_select(0, self._places).view(rows, -1, *values.shape[1:]).transpose(1, 2)
        mask = self._mask(window)  # [rows, 1, 1, context]
        out = scaled_dot_product_attention(
            q.unsqueeze(2), key, value, attn_mask=mask, scale=scale, enable_gqa=True
        )  # [rows, H, 1, P]
        return spoil_broken_rows(out.squeeze(2), q, k)

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            seen = self._context <= self._positions[:, None]
            if window is not None:
                seen &= self._context > self._positions[:, None] - window
            mask = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
            self._masks[window] = mask.masked_fill_(~seen, float("-inf"))[:, None, None, :]
        return self._masks[window]
