"""A layer's self-attention on the rows of a ragged batch, with the adapters' additions.

All families share it: biases, norms of queries and keys, rotary angles and a window are optional. The step decides
which rows and cached keys a row attends to (`kernels.attention.torch_sdpa`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.row_ops import TORCH, Angles, RowOps
from headmix_server.models.formats.linear import Linear
from headmix_server.models.layers.norm import Norm


@dataclass(frozen=True, slots=True)
class Heads:
    """How the projections are split into heads, and the scale of their scores."""

    queries: int
    keys: int
    size: int
    scale: float


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """One layer's attention. `q_norm` and `k_norm` (both or neither) act on each head first; `window` is in tokens."""

    layer: int
    qkv: Linear  # ((H + 2 G) * P, D): queries, then keys, then values
    o: Linear  # (D, H*P)
    heads: Heads
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    window: int | None = None
    ops: RowOps = TORCH

    def __call__(
        self, x: Tensor, attention: StepAttention, angles: Angles | None, adapters: StepAdapters | None
    ) -> Tensor:
        """Compute [tokens, D] -> [tokens, D]; `angles` is None if positions are not rotary."""
        heads = self.heads
        qkv = self.qkv(x)
        if adapters is not None:
            adapters.add_qkv(self.layer, x, qkv)
        last_key = heads.queries + heads.keys
        states = qkv.view(-1, last_key + heads.keys, heads.size)
        turned = self._normalise(states[:, :last_key])
        if angles is not None:
            turned = self.ops.rotate(turned, angles)
        attended = attention.attend(
            self.layer,
            turned[:, : heads.queries],
            turned[:, heads.queries :],
            states[:, last_key:],
            scale=heads.scale,
            window=self.window,
        ).flatten(1)  # [tokens, H*P]
        out = self.o(attended)
        if adapters is not None:
            adapters.add_o(self.layer, attended, out)
        return out

    def _normalise(self, states: Tensor) -> Tensor:
        """Normalise queries and keys [tokens, H + G, P] per head, if the family does."""
        if self.q_norm is None or self.k_norm is None:
            return states
        queries, keys = states[:, : self.heads.queries], states[:, self.heads.queries :]
        return torch.cat([self.q_norm(queries), self.k_norm(keys)], dim=1)
