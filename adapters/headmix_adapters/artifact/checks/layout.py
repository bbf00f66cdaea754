"""The names and shapes an artifact's tensors must have, checked against the table in `sites` without reading values."""

import re
from collections.abc import Mapping

from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.header import TensorEntry
from headmix_adapters.config import AdapterConfig
from headmix_adapters.sites import Shape, layer_shapes, tensor_shapes

FLOAT_DTYPES = ("F16", "BF16", "F32", "F64")

_LAYER_TENSOR = re.compile(r"layers\.(0|[1-9][0-9]{0,8})\.((?:[qkvo]|gate_up|down)\.(?:head|shared)\.(?:A|B|bias))")
_OTHER_TENSORS = frozenset(
    {"added_tokens.embedding"}
    | {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")}
)


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor adapts, or None if it belongs to no layer."""
    match = _LAYER_TENSOR.fullmatch(name)
    return int(match[1]) if match else None


def term_of(name: str) -> str | None:
    """Return the term that a layer's tensor belongs to, for example `q.head`, or None for any other tensor."""
    match = _LAYER_TENSOR.fullmatch(name)
    return match[2].rpartition(".")[0] if match else None


def check_layout(config: AdapterConfig, tensors: Mapping[str, TensorEntry], faults: FaultList) -> None:
    """Add a fault for every tensor that is unknown, extra, missing, has the wrong shape or is not of a float dtype.

    The config must have passed `rules.check_dimensions`: its ranks and sizes are trusted here.
    """
    per_layer = layer_shapes(config)
    layers = {layer for name in tensors if (layer := layer_of(name)) is not None}
    known_layers = tuple(sorted(layer for layer in layers if layer < config.base.num_layers))
    expected = tensor_shapes(config, known_layers)
    if per_layer and not known_layers:
        faults.add("the config has sites, but no layer of the base is adapted")
    for name, entry in tensors.items():
        if reason := _name_fault(name, config, per_layer):
            faults.add(reason, name)
        elif (shape := expected.get(name)) is None:
            faults.add("extra: the config does not ask for it", name)
        elif entry.shape != shape:
            faults.add(f"its shape is {list(entry.shape)}, the config and base ask for {list(shape)}", name)
        if entry.dtype not in FLOAT_DTYPES:
            faults.add(f"dtype {entry.dtype} is not one of {', '.join(FLOAT_DTYPES)}", name)
    for name, shape in expected.items():
        if name not in tensors:
            faults.add(f"missing: a tensor of shape {list(shape)} is expected", name)


def _name_fault(name: str, config: AdapterConfig, per_layer: Mapping[str, Shape]) -> str | None:
    match = _LAYER_TENSOR.fullmatch(name)
    if match is None:
        return None if name in _OTHER_TENSORS else "unknown: the format has no tensor of this name"
    if match[2] not in per_layer:
        return "extra: the config does not ask for it"
    if int(match[1]) >= config.base.num_layers:
        return f"layer {match[1]} is not one of the base's {config.base.num_layers} layers, counted from 0"
    return None
