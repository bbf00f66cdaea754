"""The method's terms for many adapters at once: what `headmix_adapters.reference` computes, batched over slots.

Weights are given as arenas of rank rows (a row holds one rank of all heads) and an index of the rows each segment uses,
padded with a row of zeros to the largest rank in use. No loop over adapters. Knows nothing of slots' owners or models.
"""

from dataclasses import dataclass

from torch import Tensor

from headmix_server.kernels.products import product


@dataclass(frozen=True, slots=True)
class SegmentWeights:
    """One term's weights for one layer, by segment, with scale and padding already applied.

    Head terms: A [segments, rank, heads, in], B [segments, rank, heads, out]. Shared terms: A [segments, rank, in], B
    [segments, rank, out]. `bias` [segments, out of the site] or None.
    """

    A: Tensor
    B: Tensor
    bias: Tensor | None


def head_from_x(x: Tensor, weights: SegmentWeights) -> Tensor:
    """B^h (A^h x) for every head: [segments, width, D] -> [segments, width, heads * P]; sites q, and v with base x."""
    segments, rank, heads, _ = weights.A.shape
    z = product(x, weights.A.flatten(1, 2).transpose(1, 2))  # [segments, width, rank * heads]
    z = z.reshape(segments, -1, rank, heads).permute(0, 3, 1, 2)  # [segments, heads, width, rank]
    delta = product(z, weights.B.permute(0, 2, 1, 3))  # [segments, heads, width, P]
    return _with_bias(delta.transpose(1, 2).flatten(2), weights.bias)


def v_head_from_key(key: Tensor, weights: SegmentWeights) -> Tensor:
    """B^g (A^g k^g) for every kv head: [segments, width, G * P] -> the same shape."""
    segments, _, heads, head_dim = weights.A.shape
    key = key.reshape(segments, -1, heads, head_dim).transpose(1, 2)  # [segments, G, width, P]
    z = product(key, weights.A.permute(0, 2, 3, 1))  # [segments, G, width, rank]
    delta = product(z, weights.B.permute(0, 2, 1, 3))  # [segments, G, width, P]
    return _with_bias(delta.transpose(1, 2).flatten(2), weights.bias)


def o_head(attention: Tensor, weights: SegmentWeights) -> Tensor:
    """sum_h B^h (A^h a^h): [segments, width, H * P] -> [segments, width, D]."""
    segments, _, heads, head_dim = weights.A.shape
    attention = attention.reshape(segments, -1, heads, head_dim).transpose(1, 2)  # [segments, H, width, P]
    z = product(attention, weights.A.permute(0, 2, 3, 1))  # [segments, H, width, rank]
    z = z.permute(0, 2, 3, 1).flatten(2)  # [segments, width, rank * H]
    return _with_bias(product(z, weights.B.flatten(1, 2)), weights.bias)


def shared(x: Tensor, weights: SegmentWeights) -> Tensor:
    """B (A x): [segments, width, in] -> [segments, width, out]."""
    return product(product(x, weights.A.transpose(1, 2)), weights.B)


def _with_bias(delta: Tensor, bias: Tensor | None) -> Tensor:
    return delta if bias is None else delta + bias.unsqueeze(1)
