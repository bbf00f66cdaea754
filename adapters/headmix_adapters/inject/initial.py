"""How a new adapter is initialised: Kernel-mix, LoRA and block-diagonal LoRA each as their authors do.

Kernel-mix (arXiv 2205.03720, the authors' code): every tensor a normal folded at two standard deviations, times 0.01.
LoRA (arXiv 2106.09685, as PEFT does it): A uniform within 1/sqrt(its input), B zero: training starts at the base.
Block-diagonal LoRA (as PEFT's BD-LoRA does it): the same, but an A that is the block-diagonal factor (site o's) is
uniform within sqrt(6/its input). Its head parts have no bias, and Kernel-mix's always have one.
Drawn on the CPU from a separate generator, so the same seed gives the same adapter on every device.
"""

import math

import torch
from torch import Tensor

from headmix_adapters.config import Method
from headmix_adapters.sites import Shape, TermConfig

STANDARD_DEVIATION = 0.01
FOLD_AT = 2.0


def folded_normal(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw float32 values within +-0.02: normal, remainder by two standard deviations, scaled."""
    return torch.fmod(torch.randn(shape, generator=generator), FOLD_AT) * STANDARD_DEVIATION


def first_values(method: Method, term: TermConfig, tensor: str, shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw a term's tensor `A`, `B` or `bias` in float32."""
    head = term.term.part == "head"
    if method == "kernel-mix" and (term.has_bias or not head):
        return folded_normal(shape, generator)
    if tensor == "A":
        bound = math.sqrt((6 if head and term.term.input == "a" else 1) / shape[-1])
        return (torch.rand(shape, generator=generator) * 2 - 1) * bound
    return torch.zeros(shape)
