"""Packing the rows of a checkpoint's matrix into the native library's blocks: values are moved, none is changed.

GGUF's types are described in its library (`gguf.quants`). Blocks of 256 become eight of 32 that repeat their scale.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.stored.weights import (
    BFLOATS,
    BYTES,
    FIVES,
    GROUP,
    HALVES,
    NIBBLES,
    SCALED_FIVES,
    SCALED_NIBBLES,
    SIXES,
    WIDTH,
    StoredWeights,
)

FLOATS: Mapping[str, torch.dtype] = MappingProxyType({"BF16": torch.bfloat16, "F16": torch.float16})
"""The 16-bit float types, as GGUF and safetensors name them."""


def pack(rows: Tensor, kind: str) -> StoredWeights:
    """Pack a matrix of one of `KINDS`, given as rows of bytes or of 16-bit floats.

    Raises:
        KeyError: it is of another kind.
    """
    if kind in FLOATS:
        return _pack_floats(rows)
    number, size, width, read = _BLOCKS[kind]
    outputs, count = rows.shape[0], rows.shape[1] // size
    blocks = functional.pad(rows, (0, 0, 0, -outputs % GROUP)).view(-1, GROUP, count, size).transpose(1, 2)
    return StoredWeights(read(blocks), number, outputs, count * width)


def _pack_floats(weight: Tensor) -> StoredWeights:
    """Pack W (out, in) of bfloat16 or float16."""
    outputs, inputs = weight.shape
    whole = functional.pad(weight, (0, -inputs % WIDTH, 0, -outputs % GROUP))
    columns = whole.reshape(-1, GROUP, whole.shape[1] // WIDTH, WIDTH).permute(0, 2, 3, 1)
    if weight.dtype == torch.bfloat16:  # each word holds two inputs of one output
        columns = columns.reshape(*columns.shape[:2], WIDTH // 2, 2, GROUP).transpose(3, 4)
    numbers = columns.contiguous().view(torch.uint8).flatten(2)
    return StoredWeights(numbers, BFLOATS if weight.dtype == torch.bfloat16 else HALVES, outputs, inputs)


# These functions read blocks [groups, blocks, GROUP, bytes of GGUF's block] and return ours, [groups, blocks, bytes].


def _q4_0(blocks: Tensor) -> Tensor:
    scales = _half(blocks, 0)
    return _joined(_low(_halved(blocks[..., 2:])), scales, scales * -8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _joined(_low(_halved(blocks[..., 4:])), _half(blocks, 0), _half(blocks, 1))


def _q5_0(blocks: Tensor) -> Tensor:
    scales = _half(blocks, 0)
    return _joined(_low(_halved(blocks[..., 6:])), blocks[..., 2:6], scales, scales * -16)


def _q5_1(blocks: Tensor) -> Tensor:
    return _joined(_low(_halved(blocks[..., 8:])), blocks[..., 4:8], _half(blocks, 0), _half(blocks, 1))


def _q8_0(blocks: Tensor) -> Tensor:
    words = blocks[..., 2:].reshape(*blocks.shape[:3], 8, 4)
    return _joined(words.transpose(2, 3), _half(blocks, 0))


def _q4_k(blocks: Tensor) -> Tensor:
    return _joined(_low(_by_32(_halved(blocks[..., 16:], WIDTH))), *_super_scales(blocks))


def _q5_k(blocks: Tensor) -> Tensor:
    high = torch.cat([blocks[..., 16:48] >> place & 1 for place in range(8)], dim=3)
    codes = _by_32(_halved(blocks[..., 48:], WIDTH))
    return _joined(_low(codes), _bytes_of(_by_32(high), 1), *_super_scales(blocks))


def _q6_k(blocks: Tensor) -> Tensor:
    low = _by_32(_halved(blocks[..., :128], 2 * WIDTH))
    bits = [
        octets >> place & 3
        for octets in blocks[..., 128:192].split_with_sizes([WIDTH, WIDTH], 3)
        for place in (0, 2, 4, 6)
    ]
    high = _bytes_of(_by_32(torch.cat(bits, dim=3)), 2)  # [groups, blocks, GROUP, 8]: a word for each half
    words = high.reshape(*high.shape[:3], 2, 4).transpose(2, 3)
    scales = blocks[..., 192:208].reshape(*blocks.shape[:3], 8, 2).transpose(2, 3).flatten(1, 2)
    return _joined(_low(low), words, _each(_half(blocks, 104)), scales.transpose(2, 3))


_BLOCKS: Mapping[str, tuple[int, int, int, Callable[[Tensor], Tensor]]] = MappingProxyType(
    {
        "Q4_0": (NIBBLES, 18, 32, _q4_0),
        "Q4_1": (NIBBLES, 20, 32, _q4_1),
        "Q5_0": (FIVES, 22, 32, _q5_0),
        "Q5_1": (FIVES, 24, 32, _q5_1),
        "Q8_0": (BYTES, 34, 32, _q8_0),
        "Q4_K": (SCALED_NIBBLES, 144, 256, _q4_k),
        "Q5_K": (SCALED_FIVES, 176, 256, _q5_k),
        "Q6_K": (SIXES, 210, 256, _q6_k),
    }
)
"""Maps each GGUF type to our kind, the bytes and inputs of a block, and the function that reads its blocks."""

KINDS = frozenset({*_BLOCKS, *FLOATS})
"""Every kind that is multiplied as stored."""


def _halved(octets: Tensor, width: int = WIDTH // 2) -> Tensor:
    """Return 4-bit codes: for every `width` bytes the low halves, then the high ones."""
    parts = octets.reshape(*octets.shape[:3], -1, 1, width)
    return torch.cat([parts & 15, parts >> 4], dim=4).flatten(3)


def _half(blocks: Tensor, place: int) -> Tensor:
    """Return the half at an offset counted in halves: [groups, blocks, GROUP]."""
    return blocks[..., 2 * place : 2 * place + 2].contiguous().view(torch.float16).squeeze(-1)


def _by_32(numbers: Tensor) -> Tensor:
    """Cut blocks of 256 numbers into eight: [groups, blocks, GROUP, 256] -> [groups, 8 blocks, GROUP, 32]."""
    return numbers.reshape(*numbers.shape[:3], 8, WIDTH).transpose(2, 3).flatten(1, 2)


def _each(halves: Tensor) -> Tensor:
    """Repeat a block of 256's values for each of its eight: [groups, blocks, GROUP] -> [groups, 8 blocks, GROUP]."""
    return halves.repeat_interleave(8, dim=1)


def _super_scales(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the scale and minimum of Q4_K and Q5_K, halves, and the 6-bit factors of both, bytes."""
    low, high, rest = blocks[..., 4:16].split_with_sizes([4, 4, 4], 3)
    scales = torch.cat([low & 63, rest & 15 | low >> 2 & 48], dim=3)
    least = torch.cat([high & 63, rest >> 4 | high >> 2 & 48], dim=3)
    factors = [part.transpose(2, 3).flatten(1, 2) for part in (scales, least)]
    return _each(_half(blocks, 0)), _each(_half(blocks, 1)), factors[0], factors[1]


def _low(codes: Tensor) -> Tensor:
    """Return the codes' low four bits [groups, blocks, GROUP, WIDTH], eight inputs to a word of an output."""
    octets = codes.reshape(*codes.shape[:3], WIDTH // 2, 2)
    words = (octets[..., 0] | octets[..., 1] << 4).reshape(*codes.shape[:3], 4, 4)
    return words.transpose(2, 3)


def _bytes_of(numbers: Tensor, width: int) -> Tensor:
    """Pack values of `width` bits into bytes, the first in the lowest bits: [..., WIDTH] -> [..., bytes]."""
    parts = numbers.reshape(*numbers.shape[:-1], -1, 8 // width)
    octets = parts[..., 0]
    for place in range(1, 8 // width):
        octets = octets | parts[..., place] << place * width
    return octets


def _joined(*parts: Tensor) -> Tensor:
    """Concatenate parts [groups, blocks, ...], bytes or halves, to blocks."""
    return torch.cat([part.contiguous().view(torch.uint8).flatten(2) for part in parts], dim=2).contiguous()
