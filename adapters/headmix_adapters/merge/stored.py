"""The form in which an artifact stores merged terms: one rank for each part, smaller ones padded with zeros."""

from typing import Literal, cast

import torch
from torch import Tensor

from headmix_adapters.config import HeadBase, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.merge.terms import LowRank, TermKey, Terms

_Size = Literal[-2, -1]


def stored(terms: Terms) -> tuple[Sites, dict[str, Tensor]]:
    """Return the sites and the tensors of all terms; scales and weights are in B, so every scale is 1."""
    layers = sorted({layer for by_layer in terms.values() for layer in by_layer})
    parts: dict[str, dict[str, HeadPart | SharedPart]] = {}
    tensors: dict[str, Tensor] = {}
    for key, by_layer in terms.items():
        example = next(iter(by_layer.values()))
        # A bias without a low-rank term is stored as one of rank 1 whose A and B are zero.
        rank = max(1, *(low.rank for low in by_layer.values()))
        biased = [low.bias for low in by_layer.values() if low.bias is not None]
        for layer in layers:
            low = by_layer.get(layer) or _nothing(example)
            prefix = f"layers.{layer}.{key.site}.{key.part}"
            tensors[f"{prefix}.A"] = _padded(low.A, rank, -2)
            tensors[f"{prefix}.B"] = _padded(low.B, rank, -1)
            if biased:
                tensors[f"{prefix}.bias"] = torch.zeros_like(biased[0]) if low.bias is None else low.bias
        parts.setdefault(key.site, {})[key.part] = _part(key, rank, has_bias=bool(biased))
    sites = {site: SiteConfig(**cast("dict[str, None]", of_site)) for site, of_site in parts.items()}
    return Sites(**sites), tensors


def _part(key: TermKey, rank: int, *, has_bias: bool) -> HeadPart | SharedPart:
    if key.part == "shared":
        return SharedPart(rank=rank)
    return HeadPart(rank=rank, base=cast("HeadBase", key.input), bias=has_bias)


def _nothing(example: LowRank) -> LowRank:
    return LowRank(example.A[..., :0, :], example.B[..., :0], None)


def _padded(tensor: Tensor, rank: int, axis: _Size) -> Tensor:
    missing = rank - tensor.shape[axis]
    shape = list(tensor.shape)
    shape[axis] = missing
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis) if missing else tensor
