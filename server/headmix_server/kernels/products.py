"""Matrix products in which a row's result depends on that row alone, whatever numbers stand next to it.

oneDNN's bfloat16 products read past the end of a row where its length leaves one of their tiles unfilled, and multiply
what they find there, the next row's numbers, by zeros: a NaN in one row then makes NaN of the row before it. Lengths
that fill the tiles are safe, so others are made longer by zeros of our own. No other type or device needs it.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

TILE_DEPTH = 32
"""Numbers of a row in a tile of AMX; two of them are multiplied at a time."""


def missing_depth(depth: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return by how many zeros rows of `depth` numbers must be longer for their products to stay apart."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return 0
    return -depth % (2 if depth <= TILE_DEPTH else TILE_DEPTH)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a [..., rows, depth] times b [..., depth, columns]."""
    missing = missing_depth(a.shape[-1], a.dtype, a.device)
    if missing:
        a, b = pad(a, (0, missing)), pad(b, (0, 0, 0, missing))
    return torch.matmul(a, b)
