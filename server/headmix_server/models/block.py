"""The shared decoder block: pre-norm attention and gated MLP over a ragged batch, with the adapters' additions.

One block serves every family of this shape; families differ in how they fill it. It computes on [tokens, dim] rows and
knows nothing of sequences, slots or ranks.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from headmix_server.kernels.adapters import StepAdapters
from headmix_server.kernels.attention import AttentionPlan, paged_attention
from headmix_server.models.rotary import rotate


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """One layer's frozen weights, each (out, in)."""

    input_norm: Tensor  # [D]
    q: Tensor  # [H*P, D]
    k: Tensor  # [G*P, D]
    v: Tensor  # [G*P, D]
    o: Tensor  # [D, H*P]
    post_norm: Tensor  # [D]
    gate: Tensor  # [I, D]
    up: Tensor  # [I, D]
    down: Tensor  # [D, I]


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The constants all layers share."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step gives every layer besides its hidden states."""

    cos: Tensor  # [tokens, 1, P]
    sin: Tensor  # [tokens, 1, P]
    attention: AttentionPlan
    adapters: StepAdapters | None


class DecoderBlock:
    """One layer."""

    def __init__(self, index: int, weights: BlockWeights, shape: BlockShape) -> None:
        self._index = index
        self._weights = weights
        self._shape = shape

    def forward(self, hidden: Tensor, cache: tuple[Tensor, Tensor], step: StepInputs) -> Tensor:
        """Compute the layer: [tokens, D] -> [tokens, D]; `cache` is this layer's keys and values [places, G, P]."""
        weights, eps = self._weights, self._shape.norm_eps
        hidden = hidden + self._attend(_norm(hidden, weights.input_norm, eps), cache, step)
        x = _norm(hidden, weights.post_norm, eps)
        return hidden + linear(silu(linear(x, weights.gate)) * linear(x, weights.up), weights.down)

    def _attend(self, x: Tensor, cache: tuple[Tensor, Tensor], step: StepInputs) -> Tensor:
        weights, shape, adapters = self._weights, self._shape, step.adapters
        q, k, v = linear(x, weights.q), linear(x, weights.k), linear(x, weights.v)
        if adapters is not None:
            adapters.add_q(self._index, x, q)
            adapters.add_v(self._index, x, k, v)
            adapters.add_k(self._index, x, k)
        attention = paged_attention(
            rotate(q.view(-1, shape.num_heads, shape.head_dim), step.cos, step.sin),
            rotate(k.view(-1, shape.num_kv_heads, shape.head_dim), step.cos, step.sin),
            v.view(-1, shape.num_kv_heads, shape.head_dim),
            cache,
            step.attention,
            scale=shape.head_dim**-0.5,
        ).flatten(1)  # [tokens, H*P]
        out = linear(attention, weights.o)
        if adapters is not None:
            adapters.add_o(self._index, attention, out)
        return out


def _norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(hidden, weight.shape, weight, eps)
