"""A decode step of fixed shape on buffers at fixed addresses: fill them, compute, read the result.

Everything that differs between steps (tokens, positions, cache blocks, which slots' adapters run on which rows, and the
adapters themselves) is in memory that is written before the step, so `compute` always enqueues the same work: it can
be run directly, or captured once as a CUDA graph. Rows beyond the batch use a scratch block, and nobody reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.device.cuda.fixed_storage import DECODE_HEIGHT, FixedStorage
from headmix_server.kernels.adapters.fixed_numbers import FixedNumbers
from headmix_server.kernels.adapters.row_tiles import most_tiles, tile_decode
from headmix_server.kernels.attention.static import StaticAttention
from headmix_server.kernels.triton.needs import Launches
from headmix_server.models.model import Model


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a step is captured for: rows, cache blocks of the longest context, and the adapters' kernels."""

    rows: int
    blocks: int
    launches: Launches


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One sequence's next token: its id and position, the cache blocks up to it, and its adapter's slot.

    `is_plain` is false if it has several adapters, or a scaled one: no captured step computes such a row.
    """

    token: int
    position: int
    blocks: Sequence[int]
    slot: int | None
    is_plain: bool = True


class StaticStep:
    """The step of one shape. `scratch_block` is a cache block that no sequence holds."""

    def __init__(
        self,
        model: Model,
        storage: FixedStorage,
        attention: StaticAttention,
        shape: StepShape,
        scratch_block: int,
        device: torch.device,
    ) -> None:
        self._model = model
        self._attention = attention
        self._shape = shape
        self._padding = DecodeRow(0, 0, (scratch_block,), None)
        self._room = most_tiles(shape.rows, storage.num_slots, DECODE_HEIGHT)
        self._inputs = FixedNumbers(2 * shape.rows, device)  # tokens, then positions
        empty = tile_decode([], DECODE_HEIGHT).pad(self._room, shape.rows)
        self._tiles = FixedNumbers(len(empty.flat()), device)
        z = torch.zeros((shape.rows, storage.longest_row), dtype=torch.float32, device=device)
        self._adapters = None
        if shape.launches != Launches.of([]):
            self._adapters = storage.fixed_step(empty.on_device(self._tiles.on_device), z, shape.launches)
        self.hidden: Tensor | None = None  # [rows, D] of the last `compute`, at a fixed address once captured

    def fill(self, rows: Sequence[DecodeRow]) -> None:
        """Write a batch of at most the shape's rows into the buffers."""
        padded = [*rows, *[self._padding] * (self._shape.rows - len(rows))]
        self._inputs.write([row.token for row in padded] + [row.position for row in padded])
        self._attention.fill([row.position for row in padded], [row.blocks for row in padded])
        tiles = tile_decode([row.slot for row in rows], DECODE_HEIGHT)
        self._tiles.write(tiles.pad(self._room, self._shape.rows).flat())

    def compute(self) -> None:
        """Run the model on the buffers; what this enqueues does not depend on their contents."""
        tokens, positions = torch.split(self._inputs.on_device, self._shape.rows)
        self._attention.begin()
        self.hidden = self._model.forward(tokens, positions, self._attention, self._adapters)
