"""One projection of the base with an adapter's terms next to it.

The frozen projection stays the base's own module; the terms hold the trainable tensors and compute with
`reference.term_delta`, the same function every fast path is tested against. Knows nothing about models or files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headmix_adapters import reference
from headmix_adapters.inject.blocks import Slice
from headmix_adapters.sites import TermConfig


class TermModule(nn.Module):
    """The trainable tensors A, B and, if it has one, bias of one term in one layer."""

    def __init__(self, config: TermConfig, tensors: Mapping[str, Tensor], dropout: float) -> None:
        super().__init__()
        self.config = config
        self.A = nn.Parameter(tensors["A"])
        self.B = nn.Parameter(tensors["B"])
        self.bias = nn.Parameter(tensors["bias"]) if config.has_bias else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, rows: tuple[int, int]) -> Tensor:
        """Return rows of the term's addition in the tensors' own precision: [..., in] -> [..., rows].

        Only a shared part can compute fewer rows than it has: the rows of its B are those of the result.
        """
        dropped = self.dropout(inputs.to(self.A.dtype))
        B = self.B[slice(*rows)] if self.config.term.part == "shared" else self.B
        return reference.term_delta(self.config, dropped, self.A, B, self.bias)


@dataclass(frozen=True, slots=True)
class RawKey:
    """The source of the base's own key: a module and the columns of its result."""

    module: nn.Module
    columns: tuple[int, int]


class AdaptedProjection(nn.Module):
    """`projection(x)` plus its terms' additions, part by part if the projection is fused.

    `terms[n]` act on `slices[n]`. The raw key's module belongs elsewhere in the model, so it is not among this module's
    children; if it is this very projection (GPT-2's fused one), its result is reused and not computed twice.
    """

    def __init__(
        self, projection: nn.Module, slices: Sequence[Slice], terms: Sequence[Sequence[TermModule]], raw_key: RawKey
    ) -> None:
        super().__init__()
        self.projection = projection
        self.terms = nn.ModuleList(nn.ModuleList(of_slice) for of_slice in terms)
        self._slices = tuple(slices)
        self._terms = tuple(tuple(of_slice) for of_slice in terms)
        self._raw_key = raw_key

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted projection of x, in the base's precision."""
        result: Tensor = self.projection(x)
        parts = []
        for part, terms in zip(self._slices, self._terms, strict=True):
            own = result[..., slice(*part.columns)]
            for term in terms:
                inputs = self._key(x, result) if term.config.term.input == "k" else x
                own = own + term(inputs, part.rows).to(own.dtype)
            parts.append(own)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _key(self, x: Tensor, result: Tensor) -> Tensor:
        module = self._raw_key.module
        key: Tensor = result if module is self.projection else module(x)
        return key[..., slice(*self._raw_key.columns)]
