"""Weights as a checkpoint stores them, and products with them in float32: GGUF's blocks, bfloat16 and float16.

The native library reads them in groups of 16 outputs and blocks of 32 inputs (`native/stored_blocks.h`). Packing moves
numbers and changes none; unpacking gives the float32 weights that loading in float32 gives, bit for bit. The reference
unpacks and multiplies with torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

GROUP = 16
WIDTH = 32
NIBBLES, BYTES, BFLOATS, HALVES = range(4)
"""The kinds of blocks, as the native library numbers them."""

HALF_BYTES = 2


@dataclass(frozen=True, eq=False, slots=True)
class StoredWeights:
    """W (out, in) in blocks; inputs are filled up with zeros to whole blocks."""

    blocks: Tensor  # [groups, blocks, bytes] uint8
    kind: int
    outputs: int
    inputs: int

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self.blocks.nbytes

    @property
    def missing(self) -> int:
        """By how many zeros inputs must be longer."""
        return -self.inputs % WIDTH


def multiply(x: Tensor, weights: StoredWeights, bias: Tensor, out: Tensor) -> None:
    """Write x W^T + b to `out` [rows, out], float32 with contiguous rows; a row's result depends on that row alone.

    The bias is empty if there is none.
    """
    padded = functional.pad(x, (0, weights.missing)) if weights.missing else x
    torch.ops.headmix.stored_linear(padded, weights.blocks, weights.kind, bias, out)


def rows_of(weights: StoredWeights, wanted: Tensor) -> Tensor:
    """Return some rows of W, unpacked: [wanted] -> [wanted, in]."""
    out = torch.empty(wanted.numel(), weights.inputs + weights.missing)
    torch.ops.headmix.stored_rows(weights.blocks, weights.kind, weights.outputs, wanted.contiguous(), out)
    return out[:, : weights.inputs].contiguous() if weights.missing else out


def unpack(weights: StoredWeights) -> Tensor:
    """Return W (out, in) in float32, with torch's own operations: the reference of `rows_of` and of products."""
    groups, blocks, _ = weights.blocks.shape
    columns = _UNPACK[weights.kind](weights.blocks)  # [groups, blocks, WIDTH, GROUP]
    rows = columns.permute(0, 3, 1, 2).reshape(groups * GROUP, blocks * WIDTH)
    return rows[: weights.outputs, : weights.inputs].contiguous()


def pack(rows: Tensor, kind: str) -> StoredWeights:
    """Pack a matrix of one of `KINDS`: rows of bytes, or of 16-bit floats.

    Raises:
        KeyError: it is of another kind.
    """
    return _pack_floats(rows) if kind in FLOATS else _pack_blocks(rows, kind)


def _pack_blocks(raw: Tensor, kind: str) -> StoredWeights:
    """Pack the rows of a GGUF tensor, bytes [out, bytes of a row]."""
    block_bytes, read = _BLOCKS[kind]
    outputs = raw.shape[0]
    blocks = functional.pad(raw, (0, 0, 0, -outputs % GROUP)).view(-1, GROUP, raw.shape[1] // block_bytes, block_bytes)
    packed = read(blocks.transpose(1, 2))  # [groups, blocks, GROUP, bytes of a block]
    return StoredWeights(packed, _KINDS[kind], outputs, raw.shape[1] // block_bytes * WIDTH)


def _pack_floats(weight: Tensor) -> StoredWeights:
    """Pack W (out, in) of bfloat16 or float16."""
    outputs, inputs = weight.shape
    whole = functional.pad(weight, (0, -inputs % WIDTH, 0, -outputs % GROUP))
    columns = whole.view(-1, GROUP, whole.shape[1] // WIDTH, WIDTH).permute(0, 2, 3, 1)
    if weight.dtype == torch.bfloat16:  # the words hold two inputs of an output
        columns = _split(columns, 2, WIDTH // 2, 2).transpose(3, 4)
    numbers = columns.contiguous().view(torch.uint8).flatten(2)
    return StoredWeights(numbers, BFLOATS if weight.dtype == torch.bfloat16 else HALVES, outputs, inputs)


def _nibbles(codes: Tensor, scales: Tensor, least: Tensor) -> Tensor:
    """Join codes [groups, blocks, GROUP, WIDTH], below 16, with scales and least values [groups, blocks, GROUP]."""
    lows, highs = _split(codes, 3, WIDTH // 2, 2).unbind(4)
    octets = _split(lows | highs << 4, 3, 4, 4).transpose(2, 3)  # [..., word, GROUP, bytes of a word]
    return torch.cat([octets.flatten(2), _bytes_of(scales), _bytes_of(least)], dim=2).contiguous()


def _read_q4_0(blocks: Tensor) -> Tensor:
    scales = _halves_at(blocks, 0)
    return _nibbles(_halved(blocks[..., 2:]), scales, scales * -8)


def _read_q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(_halved(blocks[..., 4:]), _halves_at(blocks, 0), _halves_at(blocks, 1))


def _read_q8_0(blocks: Tensor) -> Tensor:
    codes = blocks[..., 2:].transpose(2, 3).flatten(2)
    return torch.cat([codes, _bytes_of(_halves_at(blocks, 0))], dim=2).contiguous()


def _halved(octets: Tensor) -> Tensor:
    """Return GGUF's 4-bit codes of a block: the low halves of its 16 bytes, then the high ones."""
    return torch.cat([octets & 15, octets >> 4], dim=-1)


def _halves_at(blocks: Tensor, place: int) -> Tensor:
    first = place * HALF_BYTES
    return blocks[..., first : first + HALF_BYTES].contiguous().view(torch.float16).squeeze(-1)


def _bytes_of(halves: Tensor) -> Tensor:
    return halves.contiguous().view(torch.uint8)


def _unpack_nibbles(blocks: Tensor) -> Tensor:
    codes = GROUP * WIDTH // 2
    octets = _split(blocks[..., :codes], 2, 4, GROUP, 4).transpose(3, 4)  # [..., word, byte, GROUP]
    columns = torch.stack([octets & 15, octets >> 4], dim=4).flatten(2, 4)
    scales, least = blocks[..., codes:].contiguous().view(torch.float16).float().unsqueeze(2).chunk(2, dim=3)
    return columns * scales + least


def _unpack_bytes(blocks: Tensor) -> Tensor:
    codes = _split(blocks[..., : GROUP * WIDTH].contiguous().view(torch.int8), 2, WIDTH, GROUP)
    return codes * blocks[..., GROUP * WIDTH :].contiguous().view(torch.float16).float().unsqueeze(2)


def _unpack_bfloats(blocks: Tensor) -> Tensor:
    pairs = _split(blocks.view(torch.bfloat16), 2, WIDTH // 2, GROUP, 2)
    return pairs.transpose(3, 4).flatten(2, 3).float()


def _unpack_halves(blocks: Tensor) -> Tensor:
    return _split(blocks.view(torch.float16), 2, WIDTH, GROUP).float()


def _split(tensor: Tensor, dim: int, *sizes: int) -> Tensor:
    """Split one dimension into several."""
    return tensor.reshape(*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :])


_BLOCKS: Mapping[str, tuple[int, Callable[[Tensor], Tensor]]] = MappingProxyType(
    {"Q4_0": (18, _read_q4_0), "Q4_1": (20, _read_q4_1), "Q8_0": (34, _read_q8_0)}
)
"""Of each GGUF type the bytes of a block of 32, and how it is read."""

_KINDS: Mapping[str, int] = MappingProxyType({"Q4_0": NIBBLES, "Q4_1": NIBBLES, "Q8_0": BYTES})
FLOATS: Mapping[str, torch.dtype] = MappingProxyType({"BF16": torch.bfloat16, "F16": torch.float16})
"""The types of 16-bit floats, as GGUF and safetensors call them."""

KINDS = frozenset({*_BLOCKS, *FLOATS})
"""Everything that is multiplied as stored."""

_UNPACK = (_unpack_nibbles, _unpack_bytes, _unpack_bfloats, _unpack_halves)
