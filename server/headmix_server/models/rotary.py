"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-split form checkpoints are stored for.

Knows positions and frequencies; where scaled frequencies come from is `rope_scaling`'s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Angles = tuple[Tensor, Tensor]
"""Cosines and sines [tokens, 1, P] of a step's positions."""


@dataclass(frozen=True, eq=False, slots=True)
class Rotary:
    """The inverse frequencies [P / 2] in float32, and the factor of cosine and sine (1 but for YaRN)."""

    inverse: Tensor
    factor: float = 1.0

    def at(self, positions: Tensor, dtype: torch.dtype) -> Angles:
        """Return cosine and sine at the given positions [tokens], computed in float32."""
        angles = torch.outer(positions.float(), self.inverse).repeat(1, 2).unsqueeze(1)
        return (angles.cos() * self.factor).to(dtype), (angles.sin() * self.factor).to(dtype)


def rotate(states: Tensor, angles: Angles) -> Tensor:
    """Turn queries or keys [tokens, heads, P] to their positions."""
    cos, sin = angles
    half = states.shape[-1] // 2
    swapped = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cos + swapped * sin
