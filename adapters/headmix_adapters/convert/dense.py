"""The exact LoRA with bias that equals a Kernel-mix term (DESIGN section 2): its blocks, padded with zeros.

Works on the tensors of one layer: knows no files, models or names.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_adapters.sites import TermConfig


@dataclass(frozen=True, slots=True)
class DenseLora:
    """B (A x) + bias next to one projection: A (r, in), B (out, r), bias (out). Scales are folded into B and bias."""

    A: Tensor
    B: Tensor
    bias: Tensor

    @property
    def rank(self) -> int:
        """The number of rows of A."""
        return self.A.shape[0]


def block_diagonal(blocks: Tensor) -> Tensor:
    """[n, rows, columns] -> [n * rows, n * columns], zero off the diagonal."""
    count, rows, columns = blocks.shape
    dense = blocks.new_zeros(count, rows, count, columns)
    for index in range(count):
        dense[index, :, index] = blocks[index]
    return dense.view(count * rows, count * columns)


def dense_term(
    config: TermConfig, A: Tensor, B: Tensor, bias: Tensor | None, key: tuple[Tensor, Tensor] | None
) -> DenseLora:
    """Write one term as a LoRA on the block's input (site o: on the heads' attention output).

    `key` is the base's key projection, weight (G*P, D) and bias (G*P), which the value's base k reads through.
    """
    scale = config.scale
    constant = B.new_zeros(0)
    match (config.term.part, config.term.input):
        case ("shared", _):
            down, up = A, B
        case ("head", "x"):
            down, up = A.flatten(0, 1), block_diagonal(B)
        case ("head", "k") if key is not None:
            weight, offset = key
            heads, _, size = A.shape
            down = torch.einsum("grp,gpd->grd", A, weight.view(heads, size, -1)).flatten(0, 1)
            up = block_diagonal(B)
            constant = torch.einsum("gpr,grk,gk->gp", B, A, offset.view(heads, size)).flatten()
        case ("head", "a"):
            down, up = block_diagonal(A), B.permute(1, 0, 2).flatten(1)
        case _:
            raise ValueError(f"{config.prefix} on {config.term.input} needs the base's key projection")
    total = up.new_zeros(up.shape[0])
    if bias is not None:
        total = total + bias.flatten()
    if constant.numel():
        total = total + constant
    return DenseLora(down, up * scale, total * scale)


def stacked(loras: list[DenseLora]) -> DenseLora:
    """Return the sum of several LoRAs of one projection."""
    return DenseLora(
        torch.cat([lora.A for lora in loras]),
        torch.cat([lora.B for lora in loras], dim=1),
        torch.stack([lora.bias for lora in loras]).sum(dim=0),
    )


def placed(lora: DenseLora, rows: slice, first: int, height: int) -> DenseLora:
    """Return the `rows` of a LoRA's output, placed at row `first` of an output of `height` rows."""
    B = lora.B.new_zeros(height, lora.rank)
    bias = lora.bias.new_zeros(height)
    own = lora.B[rows]
    B[first : first + own.shape[0]] = own
    bias[first : first + own.shape[0]] = lora.bias[rows]
    return DenseLora(lora.A, B, bias)
