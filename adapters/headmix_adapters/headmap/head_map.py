"""The head map: for each layer, site and head, the size of the adapter's effect next to the base's weight.

Sizes are Frobenius norms. At q, k and v a head has rows of the weight, at o it has columns; under grouped queries k and
v have as many heads as there are key/value heads. The MLP's sites have no heads: one number per layer.
"""

import math
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.artifact.open import Artifact
from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.resolve import ResolvedBase
from headmix_adapters.config import BaseShape
from headmix_adapters.headmap.base_weights import BaseWeights
from headmix_adapters.headmap.effect import reads_key, site_effect

_SIZES = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "model_type")
_KEY_VALUE = ("k", "v")
_MLP = ("gate_up", "down")


class SiteMap(msgspec.Struct, frozen=True):
    """One site's norms, [adapted layer][head]: of the adapter's effect and of the base's weight."""

    effect: list[list[float]]
    base: list[list[float]]

    @property
    def relative(self) -> list[list[float]]:
        """The effect as a share of the base's weight; not a number where that weight is zero."""
        return [list(map(_share, *rows)) for rows in zip(self.effect, self.base, strict=True)]


class HeadMap(msgspec.Struct, frozen=True):
    """An adapter's head map: the base's dimensions, the adapted layers, and a map of each adapted site."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    layers: tuple[int, ...]
    sites: dict[str, SiteMap]


@torch.no_grad()
def map_heads(artifact: Artifact, base: ResolvedBase) -> HeadMap:
    """Return an artifact's head map on a base.

    Raises:
        BaseError: the base has other dimensions than the artifact's, or its weights cannot be read.
        OSError, safetensors.SafetensorError: the artifact cannot be read.
    """
    _require_same_sizes(artifact.config.base, base.shape)
    tensors, weights, shape = load_tensors(Path(artifact.path)), BaseWeights(base.folder, base.shape), base.shape
    sites = artifact.config.sites.present()
    maps = {site: SiteMap([], []) for site in sites}
    for layer in artifact.layers:
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for site, parts in sites.items():
            key = weights.read(layer, "k") if reads_key(parts) else None
            effect = site_effect(site, parts, shape, own, key)
            maps[site].effect.append(_norms(effect, site, shape))
            maps[site].base.append(_norms(weights.read(layer, site), site, shape))
    return HeadMap(shape.num_layers, shape.num_heads, shape.num_kv_heads, artifact.layers, maps)


def num_heads(site: str, base: BaseShape | HeadMap) -> int:
    """Return how many heads a site has."""
    if site in _MLP:
        return 1
    return base.num_kv_heads if site in _KEY_VALUE else base.num_heads


def _norms(weight: Tensor, site: str, base: BaseShape) -> list[float]:
    """Return the norm of each head's part of a site's matrix (out, in)."""
    heads = weight.chunk(num_heads(site, base), dim=1 if site == "o" else 0)
    return [float(torch.linalg.vector_norm(head.double())) for head in heads]


def _share(effect: float, base: float) -> float:
    return effect / base if base else math.nan if effect else 0.0


def _require_same_sizes(wanted: BaseShape, given: BaseShape) -> None:
    for name in _SIZES:
        if (one := getattr(wanted, name)) != (other := getattr(given, name)):
            raise BaseError(f"the adapter belongs to another base than {given.name}: {name} {one}, not {other}")
