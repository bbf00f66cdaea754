"""How a new adapter's numbers are drawn (DESIGN section 2): a normal folded at two standard deviations, times 0.01.

Drawn on the CPU from a generator of its own, so the same seed gives the same adapter on every device.
"""

import torch
from torch import Tensor

from headmix_adapters.sites import Shape

STANDARD_DEVIATION = 0.01
FOLD_AT = 2.0


def folded_normal(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw float32 values within +-0.02: normal, remainder by two standard deviations, scaled."""
    return torch.fmod(torch.randn(shape, generator=generator), FOLD_AT) * STANDARD_DEVIATION
