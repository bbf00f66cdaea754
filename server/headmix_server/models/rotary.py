"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-split form Llama checkpoints are stored for."""

import torch
from torch import Tensor


class RotaryTable:
    """Cosines and sines for every position, computed once in float32."""

    def __init__(self, head_dim: int, max_positions: int, theta: float, dtype: torch.dtype) -> None:
        inverse = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # [P / 2]
        angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), inverse)
        self._cos = angles.cos().repeat(1, 2).to(dtype)  # [positions, P]
        self._sin = angles.sin().repeat(1, 2).to(dtype)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine [tokens, 1, P] at the given positions [tokens]."""
        return self._cos.index_select(0, positions).unsqueeze(1), self._sin.index_select(0, positions).unsqueeze(1)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys [tokens, heads, P] to their positions."""
    half = states.shape[-1] // 2
    swapped = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cos + swapped * sin
