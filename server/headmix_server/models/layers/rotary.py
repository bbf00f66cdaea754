"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-split form used by checkpoints.

Knows positions and frequencies; scaled frequencies come from `rope_scaling`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.row_ops import Angles


@dataclass(frozen=True, eq=False, slots=True)
class Rotary:
    """The inverse frequencies [P / 2] in float32, and the factor of cosine and sine (1 except for YaRN)."""

    inverse: Tensor
    factor: float = 1.0

    def at(self, positions: Tensor, dtype: torch.dtype) -> Angles:
        """Return cosine and sine at the given positions [tokens], computed in float32."""
        angles = torch.outer(positions.float(), self.inverse)
        cos, sin = angles.cos() * self.factor, angles.sin() * self.factor
        return _pair(cos, cos, dtype), _pair(-sin, sin, dtype)


def _pair(first: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.cat([first, second], dim=1).unsqueeze(1).to(dtype)
