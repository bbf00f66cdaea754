"""Philox4x32-10, the counter-based generator of Salmon et al. (SC'11), in torch's operations, and the noise from it.

A token's word depends only on the request's seed, the position and the token's id. So does the choice, whatever else is
in the batch, however many threads are used and whichever implementation chooses.
"""

import torch
from torch import Tensor

GROUP = 16
"""The number of counters whose four words serve 64 consecutive tokens."""

_LOW = 0xFFFFFFFF
_AT_ONCE = 64
"""The number of 64-token blocks computed at a time: the intermediate results stay in a core's cache."""


def draw_words(seeds: Tensor, positions: Tensor, width: int) -> Tensor:
    """Return the words, 32 bits in an int64 [rows, width], of the first tokens at the rows' seeds and positions [rows].

    The key is the seed. Token 64 b + 16 j + i has word j of counter (16 b + i, position, 0, 0).
    """
    keys = (seeds[:, None] & _LOW, (seeds[:, None] >> 32) & _LOW)
    blocks = -(-width // (4 * GROUP))
    drawn = []
    for first in range(0, blocks, _AT_ONCE):
        last = min(first + _AT_ONCE, blocks)
        counters = torch.arange(first * GROUP, last * GROUP, device=seeds.device)[None]
        words = torch.stack(philox(counters, positions[:, None], *keys), dim=1)  # [rows, 4, counters]
        drawn.append(words.view(-1, 4, last - first, GROUP).transpose(1, 2).flatten(1))
    return torch.cat(drawn, dim=1)[:, :width]


def philox(first: Tensor, second: Tensor, key: Tensor, other_key: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the words [rows, n] of the counters (first [1, n], second [rows, 1], 0, 0) under keys [rows, 1]."""
    a, b = first.expand(len(second), -1), second
    c = d = torch.zeros_like(second)
    for _ in range(10):
        product, other = a * 0xD2511F53, c * 0xCD9E8D57  # modulo 2^64: wrap-around of two's complement is harmless
        a, b = (other >> 32 & _LOW) ^ b ^ key, other & _LOW
        c, d = (product >> 32 & _LOW) ^ d ^ other_key, product & _LOW
        key, other_key = key + 0x9E3779B9 & _LOW, other_key + 0xBB67AE85 & _LOW
    return a, b, c, d


def gumbel(words: Tensor) -> Tensor:
    """Return the words' noise, float64: the largest sum of log-odds and noise is a draw by the odds."""
    return -(-((words.double() + 0.5) * 2.0**-32).log()).log()
