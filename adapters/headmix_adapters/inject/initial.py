"""How a new adapter is initialised: Kernel-mix and LoRA each as their authors do.

Kernel-mix (arXiv 2205.03720, the authors' code): every tensor a normal folded at two standard deviations, times 0.01.
LoRA (arXiv 2106.09685, as PEFT does it): A uniform within 1/sqrt(its input), B zero: training starts at the base.
Drawn on the CPU from a separate generator, so the same seed gives the same adapter on every device.
"""

import math

import torch
from torch import Tensor

from headmix_adapters.config import Method
from headmix_adapters.sites import Shape

STANDARD_DEVIATION = 0.01
FOLD_AT = 2.0


def folded_normal(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw float32 values within +-0.02: normal, remainder by two standard deviations, scaled."""
    return torch.fmod(torch.randn(shape, generator=generator), FOLD_AT) * STANDARD_DEVIATION


def first_values(method: Method, tensor: str, shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw a term's tensor `A`, `B` or `bias` in float32."""
    if method == "kernel-mix":
        return folded_normal(shape, generator)
    if tensor == "A":
        return (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(shape[-1])
    return torch.zeros(shape)
