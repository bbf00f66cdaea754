"""A step's adapters on CUDA: the kernel launches of each layer.

Grids and arguments depend only on the batch's shapes and the number of tiles, never on which adapters take part or on
their ranks, so a captured graph stays valid when adapters change: only the tables that it reads change.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import triton
from torch import Tensor

from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import TERM_INDEX, ImageTables
from headmix_server.kernels.adapters.row_tiles import RowTiles
from headmix_server.kernels.triton.expand import expand, expand_qkv
from headmix_server.kernels.triton.needs import PARTS, Launches
from headmix_server.kernels.triton.operand import MIN_DOT, block_of, operand
from headmix_server.kernels.triton.shrink import shrink, shrink_heads

SHRINK: Mapping[str, int] = MappingProxyType({"BLOCK_R": 16, "BLOCK_K": 256, "num_warps": 2, "num_stages": 3})
"""Rank rows of a block (16 fill a tensor core's tile), and how many of a row's inputs are read at a time."""

SHRINK_FLOAT32: Mapping[str, int] = MappingProxyType({**SHRINK, "BLOCK_K": 64})
"""The same for float32, whose products are unrolled: compiling takes 17 s for 256 inputs at a time and 3 s for 64."""

SHRINK_HEADS: Mapping[str, int] = MappingProxyType({"BLOCK_R": 16, "BLOCK_K": 128, "num_warps": 2, "num_stages": 4})
"""The same, for sites where each head has its own inputs."""

EXPAND_QKV: Mapping[str, int] = MappingProxyType({"BLOCK_R": 16, "num_warps": 4, "num_stages": 2})
"""Rank rows that are read at a time."""

EXPAND: Mapping[str, int] = MappingProxyType({"BLOCK_R": 32, "BLOCK_N": 128, "num_warps": 4, "num_stages": 3})
"""The same, and the columns of one program."""

PROGRAMS = 32
"""Programs per tile in `shrink`; if there are more blocks of rank rows, the programs take them in turn."""

_Q, _QS, _KS = TERM_INDEX["q", "head", "x"], TERM_INDEX["q", "shared", "x"], TERM_INDEX["k", "shared", "x"]
_VK, _VX, _VS = TERM_INDEX["v", "head", "k"], TERM_INDEX["v", "head", "x"], TERM_INDEX["v", "shared", "x"]
_O, _OS = TERM_INDEX["o", "head", "a"], TERM_INDEX["o", "shared", "a"]
_GATE_UP, _DOWN = TERM_INDEX["gate_up", "shared", "m"], TERM_INDEX["down", "shared", "i"]


class TritonAdapters:
    """See `kernels.adapters.protocol.StepAdapters`.

    All images are in one arena, whose dtype is also the batch's; the other arena is empty. `z` is scratch, float32
    [routed rows, width] with a width of at least every adapter's `z_width`. `added` is None if no row's token was added
    by an adapter.
    """

    def __init__(
        self,
        tables: ImageTables,
        tiles: RowTiles,
        z: Tensor,
        launches: Launches,
        added: AddedInputs | None = None,
    ) -> None:
        base = tables.base
        self._base = base
        self._tiles = tiles
        self._z = z
        self._launches = launches
        self._added = added
        arena = tables.bf16 if tables.bf16.numel() else tables.f32
        dtype = arena.dtype
        self._shrink_blocks = SHRINK if dtype == torch.bfloat16 else SHRINK_FLOAT32
        self._images = (arena, tables.offsets, tables.ranks, tables.scales, tiles.slots, tiles.starts, tiles.rows)
        self._sizes = {
            "NUM_TERMS": len(TERM_INDEX),
            "NUM_LAYERS": base.num_layers,
            "BLOCK_M": max(tiles.height, MIN_DOT),
        }
        # bfloat16 weights times float32 values: tf32 keeps all bits of the weights and more bits of the values
        self._expanding = {"PRECISION": "tf32" if dtype == torch.bfloat16 else "ieee"}
        self._shrinking: dict[str, Any] = {"OPERAND": operand(dtype), "PRECISION": self._expanding["PRECISION"]}

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """See `StepAdapters`."""
        if self._added is not None:
            self._added.put(embeddings)

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """See `StepAdapters`."""
        if not self._launches.qkv:
            return
        base = self._base
        terms = ((_Q, base.num_heads), (_QS, 1), (_KS, 1), (_VX, base.num_kv_heads), (_VS, 1))
        self._shrink(layer, x, terms)
        expand_qkv[self._tiles.num_tiles, base.num_heads + base.num_kv_heads](
            _rows(qkv),
            self._z,
            *self._images,
            layer,
            self._z.stride(0),
            *(_Q, _QS, _KS, _VK, _VX, _VS),
            H=base.num_heads,
            G=base.num_kv_heads,
            P=base.head_dim,
            PARTS=PARTS,
            BLOCK_P=block_of(base.head_dim),
            **EXPAND_QKV,
            **self._sizes,
            **self._shrinking,
        )

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        if not self._launches.o:
            return
        base = self._base
        shrink_heads[self._tiles.num_tiles, base.num_heads + PROGRAMS](
            _rows(attention),
            self._z,
            *self._images,
            layer,
            self._z.stride(0),
            *(_O, _OS),
            H=base.num_heads,
            P=base.head_dim,
            SPAN=_span(attention.shape[1], SHRINK_HEADS["BLOCK_K"]),
            PARTS=PARTS,
            PROGRAMS=PROGRAMS,
            BLOCK_P=block_of(base.head_dim),
            **SHRINK_HEADS,
            **self._sizes,
            **self._shrinking,
        )
        self._expand(layer, out, ((_O, base.num_heads), (_OS, 1)), parts=(1, PARTS))

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """See `StepAdapters`."""
        if self._launches.gate_up:
            self._shrink(layer, x, ((_GATE_UP, 1),))
            self._expand(layer, gate_up, ((_GATE_UP, 1),))

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        if self._launches.down:
            self._shrink(layer, inner, ((_DOWN, 1),))
            self._expand(layer, out, ((_DOWN, 1),))

    def _shrink(self, layer: int, inputs: Tensor, terms: tuple[tuple[int, int], ...]) -> None:
        shrink[self._tiles.num_tiles, PROGRAMS](
            _rows(inputs),
            self._z,
            *self._images,
            layer,
            self._z.stride(0),
            TERMS=tuple(term for term, _ in terms),
            HEADS=tuple(heads for _, heads in terms),
            IN=inputs.shape[1],
            SPAN=_span(inputs.shape[1], self._shrink_blocks["BLOCK_K"]),
            PARTS=PARTS,
            PROGRAMS=PROGRAMS,
            **self._shrink_blocks,
            **self._sizes,
            **self._shrinking,
        )

    def _expand(
        self, layer: int, out: Tensor, terms: tuple[tuple[int, int], ...], parts: tuple[int, ...] = (PARTS,)
    ) -> None:
        expand[self._tiles.num_tiles, triton.cdiv(out.shape[1], EXPAND["BLOCK_N"])](
            _rows(out),
            self._z,
            *self._images,
            layer,
            self._z.stride(0),
            TERMS=tuple(term for term, _ in terms),
            HEADS=tuple(heads for _, heads in terms),
            PARTS=parts,
            OUT=out.shape[1],
            **EXPAND,
            **self._sizes,
            **self._expanding,
        )


def _rows(tensor: Tensor) -> Tensor:
    """Check that rows follow each other without gaps, as the kernels require."""
    if not tensor.is_contiguous():
        raise ValueError(f"rows of shape {tuple(tensor.shape)} with strides {tensor.stride()} are not contiguous")
    return tensor


def _span(inputs: int, block: int) -> int:
    """Return how many inputs a part reads, a whole number of blocks."""
    return -(-inputs // (PARTS * block)) * block
