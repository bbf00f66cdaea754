"""The weighted sum of low-rank terms, exactly: their ranks side by side, their biases added up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from headmix_adapters.convert.dense import block_diagonal
from headmix_adapters.merge.terms import Addition, LowRank, TermKey, Terms

V_ON_KEY = TermKey("v", "head", "k")
V_ON_INPUT = TermKey("v", "head", "x")
V_SHARED = TermKey("v", "shared", "x")


def weighted(low: LowRank, weight: float) -> LowRank:
    """Return a term times a weight."""
    return LowRank(low.A, low.B * weight, None if low.bias is None else low.bias * weight)


def joined(lows: Sequence[LowRank]) -> LowRank:
    """Return the sum of terms of one key and layer."""
    biases = [low.bias for low in lows if low.bias is not None]
    total = torch.stack(biases).sum(dim=0) if biases else None
    return LowRank(torch.cat([low.A for low in lows], dim=-2), torch.cat([low.B for low in lows], dim=-1), total)


def join(additions: Sequence[Addition]) -> Terms:
    """Return the weighted sum of the adapters' terms; a layer that an adapter leaves alone gets nothing from it."""
    parts: dict[TermKey, dict[int, list[LowRank]]] = {}
    for addition in additions:
        for key, layers in addition.terms.items():
            for layer, low in layers.items():
                parts.setdefault(key, {}).setdefault(layer, []).append(weighted(low, addition.weight))
    return {key: {layer: joined(lows) for layer, lows in layers.items()} for key, layers in parts.items()}


def with_one_value_base(additions: Sequence[Addition]) -> tuple[list[Addition], tuple[str, ...]]:
    """Return the adapters with at most one kind of head part on v, which an artifact has one of, and notes.

    Where some read the key and some the block's input, the latter are written out as shared parts; their biases stay
    biases of a head part.
    """
    if not all(any(key in addition.terms for addition in additions) for key in (V_ON_KEY, V_ON_INPUT)):
        return list(additions), ()
    note = "site v: head parts on the block's input were written out as shared parts, beside those on the key"
    return [_on_key(addition) for addition in additions], (note,)


def _on_key(addition: Addition) -> Addition:
    heads = addition.terms.get(V_ON_INPUT)
    if heads is None:
        return addition
    terms = {key: dict(layers) for key, layers in addition.terms.items() if key != V_ON_INPUT}
    for layer, low in heads.items():
        written = LowRank(low.A.flatten(0, 1), block_diagonal(low.B), None)
        shared = terms.setdefault(V_SHARED, {})
        shared[layer] = joined([shared[layer], written]) if layer in shared else written
        if low.bias is not None:
            terms.setdefault(V_ON_KEY, {})[layer] = _bias_alone(low.B, low.bias)
    return Addition(addition.artifact, addition.weight, terms, addition.others)


def _bias_alone(B: Tensor, bias: Tensor) -> LowRank:
    heads, size, _ = B.shape
    return LowRank(B.new_zeros(heads, 0, size), B.new_zeros(heads, size, 0), bias)
