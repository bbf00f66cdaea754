"""Offsets and scales of attention heads' outputs, as LoFiT and JoLA train them.

Owns their tensors' names, `...self_attn.attn_v.{head}` and `attn_A`, with JoLA's gates `log_g1` and `log_g2` for each
head of a layer. Before the output projection head h's output a becomes (1 + g2 A) a + g1 v; LoFiT has no gates. Both
save whole models; the base's own weights in the file must be the base's, or may be missing.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from headmix_adapters.artifact import Limits
from headmix_adapters.base import ResolvedBase
from headmix_adapters.base.weight_files import INDEX, SINGLE, weight_files
from headmix_adapters.config import AdapterConfig
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.base_copies import is_base_copy
from headmix_adapters.convert.peft.lora_sites import build_sites, pieces_of
from headmix_adapters.convert.peft.module_lora import ModuleLora, Piece
from headmix_adapters.convert.result import Converted, converter_name
from headmix_adapters.families import BACKBONES, Family, UnknownFamilyError, family_of

_MARK = re.compile(r".*\.attn_[Av]\.\d+", re.ASCII)
_WRAPPERS = rf"(?:(?:module|_orig_mod|language_model|{'|'.join(BACKBONES)})\.)*"
# JoLA's gates are stretched beyond [0, 1] before they are cut off, so that they can be exactly 0 and 1.
_LOW, _HIGH = -0.1, 1.1


@dataclass(slots=True)
class _Layer:
    """One layer's tensors: scales and offsets by head, and the gates' logits by name."""

    scales: dict[int, Tensor] = field(default_factory=dict)
    offsets: dict[int, Tensor] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)


def are_head_offsets(names: Collection[str]) -> bool:
    """Return whether a file's tensors include those of LoFiT or JoLA."""
    return any(_MARK.fullmatch(name) for name in names)


def read_safetensors(source: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a safetensors file, or of a folder with a model's; None if it is neither.

    Raises:
        ConvertError: a file cannot be read.
    """
    if source.is_dir():
        paths = weight_files(source) if (source / SINGLE).is_file() or (source / INDEX).is_file() else ()
    else:
        paths = (source,) if source.suffix == ".safetensors" else ()
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            tensors |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConvertError(path.name, f"not a sound safetensors file: {error}") from None
    return tensors if paths else None


def convert_head_offsets(state: Mapping[str, Tensor], base: ResolvedBase) -> Converted:
    """Turn heads' offsets into biases of site o, and their scales into its head parts.

    Raises:
        ConvertError: a tensor does not fit the base, or is neither the base's nor part of the method.
    """
    try:
        family = family_of(base.shape.model_type)
    except UnknownFamilyError as error:
        raise ConvertError("base", str(error)) from None
    module, (part,) = next((name, parts) for name, parts in family.modules.items() if parts[0].site == "o")
    checkpoint = BaseCheckpoint(base.folder)
    layers, others = _split(state, family, module.rpartition(".")[0], base)
    for name in others:
        if not is_base_copy(name, state[name], checkpoint):
            raise ConvertError(name, "neither the base's own nor an offset, scale or gate of a head")
    pieces: dict[int, dict[str, list[Piece]]] = {}
    heads: set[tuple[int, int]] = set()
    for number, layer in sorted(layers.items()):
        name = f"{family.layers}.{number}.{module}"
        weight = checkpoint.read(f"{name}.weight").float()
        lora = _output_change(name, layer, weight.T if family.transposed else weight, base)
        pieces[number] = {site: [piece] for site, piece in pieces_of(lora, (part,), base.shape).items()}
        heads |= {(number, head) for head in layer.scales.keys() | layer.offsets.keys()}
    result = build_sites(pieces, base.shape, Limits())
    if not result.sites.present():
        raise ConvertError("attn_v", "zero effect: every offset and scale is zero")
    scaled = any(layer.scales for layer in layers.values()) and any(
        piece.A.shape[0] for layer in pieces.values() for piece in layer["o"]
    )
    notes = (
        f"site o: the offsets of {len(heads)} heads became biases"
        + (", and their scales head parts of the output projection's own size" if scaled else ""),
    )
    config = AdapterConfig(
        method="kernel-mix",
        task="generation",
        base=base.shape,
        sites=result.sites,
        training={"converted_from": "head offsets (LoFiT, JoLA)", "notes": list(notes)},
        created_by=converter_name(),
    )
    return Converted(config, result.tensors, torch.float32, notes)


def _split(
    state: Mapping[str, Tensor], family: Family, attention: str, base: ResolvedBase
) -> tuple[dict[int, _Layer], list[str]]:
    """Return the method's tensors by layer, and the names of all others."""
    pattern = re.compile(
        rf"{_WRAPPERS}{re.escape(family.layers)}\.(\d+)\.{re.escape(attention)}\."
        r"(?:attn_(?P<kind>[Av])\.(?P<head>\d+)|(?P<gate>log_g[12]))",
        re.ASCII,
    )
    layers: dict[int, _Layer] = {}
    others: list[str] = []
    shape = base.shape
    for name, tensor in state.items():
        match = pattern.fullmatch(name)
        if match is None:
            others.append(name)
            continue
        if int(match[1]) >= shape.num_layers:
            raise ConvertError(name, f"the base has {shape.num_layers} layers, counted from 0")
        layer = layers.setdefault(int(match[1]), _Layer())
        if match["gate"]:
            if tensor.numel() != shape.num_heads:
                raise ConvertError(name, f"it has {tensor.numel()} numbers, the base has {shape.num_heads} heads")
            layer.gates[match["gate"]] = tensor.float().flatten()
            continue
        head = int(match["head"])
        if head >= shape.num_heads:
            raise ConvertError(name, f"the base has {shape.num_heads} heads, counted from 0")
        if tensor.shape != (shape.head_dim,):
            raise ConvertError(name, f"its shape is {list(tensor.shape)}, the base's heads have {[shape.head_dim]}")
        (layer.scales if match["kind"] == "A" else layer.offsets)[head] = tensor.float()
    return layers, others


def _output_change(name: str, layer: _Layer, weight: Tensor, base: ResolvedBase) -> ModuleLora:
    """Return what a layer's offsets and scales add after its output projection, whose weight is (D, H * P)."""
    if len(layer.gates) == 1:
        raise ConvertError(f"{name}.{next(iter(layer.gates))}", "the layer has one of JoLA's two gates")
    shape = base.shape
    scales = _by_head(layer.scales, layer.gates.get("log_g2"), shape.num_heads, shape.head_dim)
    offsets = _by_head(layer.offsets, layer.gates.get("log_g1"), shape.num_heads, shape.head_dim)
    used = scales.nonzero().flatten()
    A = torch.zeros(len(used), scales.numel())
    A[torch.arange(len(used)), used] = scales[used]
    return ModuleLora(name, A, weight[:, used], weight @ offsets, 1.0, "A")


def _by_head(vectors: Mapping[int, Tensor], logits: Tensor | None, heads: int, size: int) -> Tensor:
    """Return all heads' vectors times their gates, one after the other; heads without one have zeros."""
    total = torch.zeros(heads, size)
    for head, vector in vectors.items():
        total[head] = vector
    if logits is not None:
        total *= (logits.sigmoid() * (_HIGH - _LOW) + _LOW).clamp(0, 1)[:, None]
    return total.flatten()
