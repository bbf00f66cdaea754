"""Describing decoder layers to `kernels.decoder_layers`, if all of them can run in one native call per step.

Other layers are computed one operation at a time, by `models.layers.block`: the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.native import NativePagedAttention
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.decoder_layers import INT8, LayerShape, NativeLayer, NativeLayers, NativeLinear, NativePart
from headmix_server.kernels.row_ops import NATIVE, Angles
from headmix_server.models.formats.bfloat16_linear import BFloat16Linear
from headmix_server.models.formats.int8_linear import NativeInt8Linear
from headmix_server.models.formats.linear import Linear
from headmix_server.models.formats.stored_linear import StoredLinear
from headmix_server.models.layers.block import PreNormBlock
from headmix_server.models.layers.norm import Norm, RMSNorm
from headmix_server.models.layers.rotary import Rotary

Layers = Sequence[tuple[PreNormBlock, Rotary | None]]


@dataclass(frozen=True, slots=True)
class WholeStep:
    """A decoder's layers in one call, and the rotary embedding that all of them share."""

    layers: NativeLayers
    rotary: Rotary

    def run(self, hidden: Tensor, positions: Tensor, attention: StepAttention, adapters: StepAdapters | None) -> bool:
        """Compute all layers on hidden states [tokens, D] in place; False if this step's parts are not native."""
        if not isinstance(attention, NativePagedAttention) or not isinstance(adapters, NativeAdapters | None):
            return False
        angles: Angles = self.rotary.at(positions, hidden.dtype)
        self.layers(hidden, angles, attention, adapters)
        return True


class _NotNativeError(Exception):
    """These layers cannot run in one native call; the message gives the reason."""


def whole_step(layers: Layers) -> WholeStep | None:
    """Return the layers as one native call, or None; the choice and its reason are logged."""
    log = get_logger("models")
    try:
        step = _whole_step(layers)
    except _NotNativeError as reason:
        log.info("decoder layers", by="torch, one operation at a time", reason=str(reason))
        return None
    log.info("decoder layers", by="one native call")
    return step


def _whole_step(layers: Layers) -> WholeStep:
    rotaries = {rotary for _, rotary in layers}
    rotary = rotaries.pop() if len(rotaries) == 1 else None
    if rotary is None:
        raise _NotNativeError("they do not share one rotary embedding")
    shapes: set[LayerShape] = set()
    native = [_describe(block, shapes) for block, _ in layers]
    if len(shapes) != 1:
        raise _NotNativeError("their heads or norms differ")
    return WholeStep(NativeLayers(native, shapes.pop()), rotary)


def _describe(block: PreNormBlock, shapes: set[LayerShape]) -> NativeLayer:
    """Describe a layer, and add its shape, which must be the same in all layers, to `shapes`."""
    attention, mlp = block.attention, block.mlp
    if block.attention_out is not None or block.mlp_out is not None:
        raise _NotNativeError("they normalise what they add")
    if mlp.activation is not NATIVE.gated_silu:
        raise _NotNativeError("their activation is not the native gated SiLU")
    heads, none = attention.heads, (torch.empty(0), None)
    attention_norm, mlp_norm = _norm(block.attention_norm), _norm(block.mlp_norm)
    q_norm, k_norm = (none if norm is None else _norm(norm) for norm in (attention.q_norm, attention.k_norm))
    for _, eps in (attention_norm, mlp_norm, q_norm, k_norm):
        if eps is not None:
            shapes.add(LayerShape(heads.queries, heads.keys, heads.scale, eps))
    return NativeLayer(
        attention_norm=attention_norm[0],
        mlp_norm=mlp_norm[0],
        q_norm=q_norm[0],
        k_norm=k_norm[0],
        window=attention.window or 0,
        qkv=_linear(attention.qkv),
        o=_linear(attention.o),
        gate_up=_linear(mlp.gate_up),
        down=_linear(mlp.down),
    )


def _norm(norm: Norm) -> tuple[Tensor, float]:
    if not isinstance(norm, RMSNorm) or norm.ops is not NATIVE:
        raise _NotNativeError("their norms are not the native RMS norm")
    return norm.weight, norm.eps


def _linear(linear: Linear) -> NativeLinear:
    match linear:
        case NativeInt8Linear(weights, bias):
            return [NativePart(weights.groups, bias, INT8, weights.outputs)]
        case BFloat16Linear(weights, bias, unit):
            return [NativePart(weights.blocks, bias, INT8 - unit, weights.outputs)]
        case StoredLinear(parts) if not any(weights.missing for weights, _ in parts):
            return [NativePart(weights.blocks, bias, weights.kind, weights.outputs) for weights, bias in parts]
        case _:
            raise _NotNativeError(f"a {type(linear).__name__} is not multiplied by the native library")
