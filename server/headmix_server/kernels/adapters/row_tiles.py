"""The rows of a step in tiles of at most a fixed number of rows, all of one slot: the work of a GPU kernel's program.

Counted on the host, so that choosing the kernels' grids reads nothing from the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.adapters.slot_span import SlotSpan


@dataclass(frozen=True, slots=True)
class RowTiles:
    """Tile t holds rows[starts[t] : starts[t + 1]], at most `height` of them, all of slot slots[t].

    A slot may have several tiles. Tiles without rows only fill a grid: a step replayed from a graph has as many tiles
    as the largest step of its size can need.
    """

    slots: Tensor  # [tiles] int32
    starts: Tensor  # [tiles + 1] int32
    rows: Tensor  # [routed rows] int32: rows of the batch, ascending within a slot
    height: int

    @property
    def num_tiles(self) -> int:
        """The number of tiles, including empty ones."""
        return self.slots.numel()


@dataclass(frozen=True, slots=True)
class TileNumbers:
    """The same tiles on the host."""

    slots: list[int]
    starts: list[int]
    rows: list[int]
    height: int

    def pad(self, num_tiles: int, num_rows: int) -> "TileNumbers":
        """Return them padded with empty tiles and unused rows to these counts."""
        tiles, rows = num_tiles - len(self.slots), num_rows - len(self.rows)
        if tiles < 0 or rows < 0:
            raise ValueError(f"{len(self.slots)} tiles of {len(self.rows)} rows, room for {num_tiles} of {num_rows}")
        end = self.starts[-1]
        return TileNumbers(self.slots + [0] * tiles, self.starts + [end] * tiles, self.rows + [0] * rows, self.height)

    def flat(self) -> list[int]:
        """Return all of them in one list: slots, starts, rows."""
        return self.slots + self.starts + self.rows

    def on_device(self, flat: Tensor) -> RowTiles:
        """Return the tiles given by `flat`, the numbers of `flat()` on a device as int32."""
        tiles = len(self.slots)
        slots, starts, rows = torch.split(flat, [tiles, tiles + 1, len(self.rows)])
        return RowTiles(slots, starts, rows, self.height)


def tile_rows(spans: Sequence[SlotSpan], height: int) -> TileNumbers:
    """Cut spans of one unscaled adapter each into tiles. No row may be in two spans."""
    by_slot: dict[int, list[int]] = {}
    for span in spans:
        if not span.is_plain:
            raise ValueError("a tile's rows have one adapter, unscaled")
        if span.num_rows:
            by_slot.setdefault(span.slot, []).extend(span.rows)
    tiles = _cut({slot: sorted(rows) for slot, rows in by_slot.items()}, height)
    if len(set(tiles.rows)) != len(tiles.rows):
        raise ValueError("a row belongs to two spans")
    return tiles


def tile_decode(slots: Sequence[int | None], height: int) -> TileNumbers:
    """Cut the rows of a step that only decodes into tiles, as `tile_rows` does but faster.

    `slots` has one entry per row, None for rows of the base alone.
    """
    by_slot: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot is not None:
            by_slot.setdefault(slot, []).append(row)
    return _cut(by_slot, height)


def _cut(by_slot: Mapping[int, list[int]], height: int) -> TileNumbers:
    slots: list[int] = []
    starts, rows = [0], []
    for slot in sorted(by_slot):
        own = by_slot[slot]
        for at in range(0, len(own), height):
            slots.append(slot)
            rows += own[at : at + height]
            starts.append(len(rows))
    return TileNumbers(slots, starts, rows, height)


def most_tiles(rows: int, slots: int, height: int) -> int:
    """Return how many tiles `rows` rows of at most `slots` slots can need."""
    owners = min(rows, slots)
    return owners + (rows - owners) // height
