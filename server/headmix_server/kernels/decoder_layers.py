"""All layers of a pre-norm decoder in one native call per step, with no operator dispatched in between.

It computes what `models.layers.block` defines, with the same functions that the layers call one by one through torch,
so the results are bit for bit the same. Weights are described by their kind, so a layer can use any form that the
native library multiplies. Needs `kernels.native` loaded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.attention.native import NativePagedAttention
from headmix_server.kernels.row_ops import Angles

INT8 = -1
"""The kind of `kernels.int8_weights`. INT8 - unit is bfloat16 by one of the processor's units; the others are the kinds
of `kernels.stored.weights`."""


@dataclass(frozen=True, eq=False, slots=True)
class NativePart:
    """W (outputs, in) of a kind, and its bias [outputs], empty if there is none."""

    weights: Tensor
    bias: Tensor
    kind: int
    outputs: int


NativeLinear = Sequence[NativePart]
"""A map x -> x W^T + b; with several parts, their results are concatenated."""


@dataclass(frozen=True, eq=False, slots=True)
class NativeLayer:
    """One layer. The norms of query and key heads are empty if there are none; `window` is in tokens, 0 if none."""

    attention_norm: Tensor  # [D]
    mlp_norm: Tensor  # [D]
    q_norm: Tensor  # [P]
    k_norm: Tensor  # [P]
    window: int
    qkv: NativeLinear
    o: NativeLinear
    gate_up: NativeLinear
    down: NativeLinear


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What all layers share: the heads of queries and keys, the scale of the scores, and the norms' epsilon."""

    heads: int
    kv_heads: int
    scale: float
    eps: float


class NativeLayers:
    """The layers of a base whose projections are all of kinds that the native library multiplies."""

    def __init__(self, layers: Sequence[NativeLayer], shape: LayerShape) -> None:
        self._tensors = [tensor for layer in layers for tensor in _tensors(layer)]
        self._numbers = torch.tensor([number for layer in layers for number in _numbers(layer)], device="cpu")
        self._shape = (shape.heads, shape.kv_heads, shape.scale, shape.eps)
        self._op = torch.ops.headmix.decoder_layers

    def __call__(
        self, hidden: Tensor, angles: Angles, attention: NativePagedAttention, adapters: NativeAdapters | None
    ) -> None:
        """Compute all layers on hidden states [tokens, D], float32, in place."""
        caches = [tensor for layer in attention.caches for tensor in layer]
        routed, schedule = ((), 0) if adapters is None else (adapters.tables, adapters.schedule)
        self._op(
            hidden, *angles, self._tensors, self._numbers, *self._shape, caches, *attention.layout, routed, schedule
        )


def _tensors(layer: NativeLayer) -> Iterator[Tensor]:
    """Yield a layer's tensors in the order in which the native library reads them."""
    yield from (layer.attention_norm, layer.mlp_norm, layer.q_norm, layer.k_norm)
    for linear in (layer.qkv, layer.o, layer.gate_up, layer.down):
        for part in linear:
            yield from (part.weights, part.bias)


def _numbers(layer: NativeLayer) -> Iterator[int]:
    """Yield a layer's numbers in the order in which the native library reads them."""
    yield layer.window
    for linear in (layer.qkv, layer.o, layer.gate_up, layer.down):
        yield len(linear)
        for part in linear:
            yield from (part.kind, part.outputs)
