"""From block-diagonal LoRAs to head parts: each head keeps the ranks that its own rows or columns use, exactly.

With as many blocks as heads each head gets its block. A block of several heads is repeated for each of them, and a head
of several blocks gets them all, padded with zeros. Works on one layer's pieces; knows no files or foreign names.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.convert.peft.module_lora import Factor, Piece
from headmix_adapters.presets import HEAD_BASES
from headmix_adapters.sites import TERMS, symbol_sizes

HEAD_FACTOR: Mapping[str, Factor] = MappingProxyType({"q": "B", "v": "B", "o": "A"})
"""The factor of a site's LoRA that is block-diagonal where each head has its own part."""

Factors = tuple[Tensor, Tensor]


def is_by_head(site: str, piece: Piece) -> bool:
    """Return whether a piece becomes (part of) the site's head part."""
    return piece.blocks is not None and piece.blocks == HEAD_FACTOR.get(site)


def head_rank(site: str, group: Iterable[Piece], base: BaseShape) -> int:
    """Return the largest rank a head needs for the sum of one layer's pieces."""
    return max((sum(A.shape[0] for A, _ in factors) for factors in _by_head(site, group, base)), default=0)


def repeats_blocks(site: str, group: Iterable[Piece], base: BaseShape) -> bool:
    """Return whether some heads of one layer share a block, so that it appears more than once."""
    pieces = list(group)
    ranks = sum(A.shape[0] for factors in _by_head(site, pieces, base) for A, _ in factors)
    return ranks > sum(piece.A.shape[0] for piece in pieces)


def head_tensors(
    site: str, group: list[Piece], base: BaseShape, shapes: Mapping[str, tuple[int, ...]], *, fold: bool
) -> dict[str, Tensor]:
    """Return A and B of one layer's head part, padded with zeros to its rank; `fold` multiplies the scales into B."""
    dtype = torch.float64 if any(piece.B.dtype == torch.float64 for piece in group) else torch.float32
    A, B = torch.zeros(shapes["A"], dtype=dtype), torch.zeros(shapes["B"], dtype=dtype)
    scales = [piece.scale if fold else 1.0 for piece in group]
    for head, factors in enumerate(_by_head(site, group, base)):
        first = 0
        for (down, up), scale in zip(factors, scales, strict=True):
            ranks = slice(first, first + down.shape[0])
            first = ranks.stop
            A[head, ranks] = down
            B[head, :, ranks] = up * scale
    return {"A": A, "B": B}


def _by_head(site: str, group: Iterable[Piece], base: BaseShape) -> list[list[Factors]]:
    """Return the factors of each head, one pair per piece."""
    heads = symbol_sizes(base, rank=0)[TERMS[(site, "head", HEAD_BASES[site])].A[0]]
    columns = [list(_factors(site, piece, heads, base.head_dim)) for piece in group]
    return [[column[head] for column in columns] for head in range(heads)]


def _factors(site: str, piece: Piece, heads: int, size: int) -> Iterator[Factors]:
    """Yield each head's rows of A and columns of B, without the ranks that add nothing to it."""
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        if HEAD_FACTOR[site] == "A":
            used = piece.A[:, own].ne(0).any(dim=1)
            yield piece.A[used, own], piece.B[:, used]
        else:
            used = piece.B[own].ne(0).any(dim=0)
            yield piece.A[used], piece.B[own][:, used]
