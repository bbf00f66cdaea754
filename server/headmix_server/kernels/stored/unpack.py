"""Unpacking the weights of blocks to float32 with torch's own operations: the native library's reference."""

import torch
from torch import Tensor

from headmix_server.kernels.stored.weights import GROUP, WIDTH, StoredWeights

_LOW = GROUP * WIDTH // 2


def unpack(weights: StoredWeights) -> Tensor:
    """Return W (out, in)."""
    groups, blocks, _ = weights.blocks.shape
    columns = _UNPACK[weights.kind](weights.blocks)  # [groups, blocks, WIDTH, GROUP]
    rows = columns.permute(0, 3, 1, 2).reshape(groups * GROUP, blocks * WIDTH)
    return rows[: weights.outputs, : weights.inputs].contiguous()


def _nibbles(blocks: Tensor) -> Tensor:
    return _by_halves(_low(blocks), blocks[..., _LOW:])


def _scaled_nibbles(blocks: Tensor) -> Tensor:
    return _by_bytes(_low(blocks), blocks[..., _LOW:])


def _fives(blocks: Tensor) -> Tensor:
    high = _LOW + GROUP * 4
    return _by_halves(_low(blocks) + 16 * _bits(blocks[..., _LOW:high], 1), blocks[..., high:])


def _scaled_fives(blocks: Tensor) -> Tensor:
    high = _LOW + GROUP * 4
    return _by_bytes(_low(blocks) + 16 * _bits(blocks[..., _LOW:high], 1), blocks[..., high:])


def _sixes(blocks: Tensor) -> Tensor:
    high = _LOW + GROUP * 8
    words = blocks[..., _LOW:high].reshape(*blocks.shape[:2], 2, GROUP * 4)
    codes = _low(blocks) + 16 * torch.cat([_bits(half, 2) for half in words.unbind(2)], dim=2)
    scales = _floats(blocks[..., high : high + GROUP * 2])
    bytes_ = blocks[..., high + GROUP * 2 :].contiguous().view(torch.int8)
    halves = [scales * half for half in bytes_.chunk(2, dim=2)]
    return (codes.int() - 32) * torch.stack(halves, dim=2).repeat_interleave(WIDTH // 2, dim=2)


def _bytes(blocks: Tensor) -> Tensor:
    words = blocks[..., : GROUP * WIDTH].contiguous().view(torch.int8).reshape(*blocks.shape[:2], 8, GROUP, 4)
    return words.transpose(3, 4).flatten(2, 3) * _floats(blocks[..., GROUP * WIDTH :]).unsqueeze(2)


def _bfloats(blocks: Tensor) -> Tensor:
    pairs = blocks.view(torch.bfloat16).reshape(*blocks.shape[:2], WIDTH // 2, GROUP, 2)
    return pairs.transpose(3, 4).flatten(2, 3).float()


def _halves(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16).reshape(*blocks.shape[:2], WIDTH, GROUP).float()


_UNPACK = (_nibbles, _bytes, _bfloats, _halves, _scaled_nibbles, _fives, _scaled_fives, _sixes)
"""The unpacking function of each kind."""


def _low(blocks: Tensor) -> Tensor:
    """Return the low four bits of every code [groups, blocks, WIDTH, GROUP]."""
    octets = blocks[..., :_LOW].reshape(*blocks.shape[:2], 4, GROUP, 4).transpose(3, 4)  # word, byte, output
    return torch.stack([octets & 15, octets >> 4], dim=4).flatten(2, 4)


def _bits(words: Tensor, width: int) -> Tensor:
    """Return the values of `width` bits in one word per output: [groups, blocks, inputs, GROUP]."""
    octets = words.reshape(*words.shape[:2], GROUP, 4)
    numbers = [octets >> place & (1 << width) - 1 for place in range(0, 8, width)]
    return torch.stack(numbers, dim=4).flatten(3).transpose(2, 3)


def _by_halves(codes: Tensor, rest: Tensor) -> Tensor:
    scales, least = _floats(rest).unsqueeze(2).chunk(2, dim=3)
    return codes * scales + least


def _by_bytes(codes: Tensor, rest: Tensor) -> Tensor:
    factors = rest[..., GROUP * 4 :].contiguous().view(torch.int8)
    scales, least = (_floats(rest[..., : GROUP * 4]) * factors).unsqueeze(2).chunk(2, dim=3)
    return codes * scales - least


def _floats(halves: Tensor) -> Tensor:
    return halves.contiguous().view(torch.float16).float()
