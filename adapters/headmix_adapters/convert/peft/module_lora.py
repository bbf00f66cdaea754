"""The LoRA of one module of the base's model, and its share of one of the artifact's sites."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Factor = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class ModuleLora:
    """scale * (B (A x) + bias) next to one module: A (r, in), B (out, r), bias (out). `name` is for messages.

    `blocks` names the factor that is block-diagonal, if one is; it is written out in full. With DoRA's `magnitude` the
    module means something else (see `dora`) until it is written out.
    """

    name: str
    A: Tensor
    B: Tensor
    bias: Tensor | None
    scale: float
    blocks: Factor | None = None
    magnitude: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One module's share of one layer's site: B and bias have all the site's rows, zero outside the module's own."""

    name: str
    A: Tensor
    B: Tensor
    bias: Tensor | None
    scale: float
    blocks: Factor | None = None
