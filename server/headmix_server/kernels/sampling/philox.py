"""Philox4x32-10, the counter-based generator of Salmon et al. (SC'11), in torch's operations, and the noise made of it.

A token's word is a function of the request's seed, the position and the token's id alone. So is the choice, whatever
else is in the batch, on however many threads it is made and whichever implementation makes it.
"""

import torch
from torch import Tensor

GROUP = 16
"""Counters whose four words are those of 64 tokens that follow each other."""

_LOW = 0xFFFFFFFF
_AT_ONCE = 64
"""Blocks of 64 tokens that are worked on at a time: what is in between stays in a core's cache."""


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
        product, other = a * 0xD2511F53, c * 0xCD9E8D57  # modulo 2^64, which two's complement leaves as it is
        a, b = (other >> 32 & _LOW) ^ b ^ key, other & _LOW
        c, d = (product >> 32 & _LOW) ^ d ^ other_key, product & _LOW
        key, other_key = key + 0x9E3779B9 & _LOW, other_key + 0xBB67AE85 & _LOW
    return a, b, c, d


def gumbel(words: Tensor) -> Tensor:
    """Return the words' noise, float64: what makes the largest sum of logarithm and noise a draw by the odds."""
    return -(-((words.double() + 0.5) * 2.0**-32).log()).log()
