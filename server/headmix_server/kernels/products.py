"""Matrix products in which a row's result depends on that row alone, whatever values its neighbours hold.

oneDNN's bfloat16 products read past the end of a row whose length leaves one of their tiles partly filled, and multiply
what they find there, the next row's values, by zeros: a NaN in one row then turns the row before it into NaN. Lengths
that fill the tiles are safe, so others are padded with zeros here. No other dtype or device needs it.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

TILE_DEPTH = 32
"""Values of a row in an AMX tile; they are multiplied in pairs."""


def missing_depth(depth: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return how many zeros rows of `depth` values need as padding to keep their products independent."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return 0
    return -depth % (2 if depth <= TILE_DEPTH else TILE_DEPTH)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a [..., rows, depth] times b [..., depth, columns]."""
    missing = missing_depth(a.shape[-1], a.dtype, a.device)
    if missing:
        a, b = pad(a, (0, missing)), pad(b, (0, 0, 0, missing))
    return torch.matmul(a, b)
