"""The modules of a model's layers that adapters act on, found by the family's table and checked against the base.

Owns finding and replacing them. Knows nothing about terms and their tensors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headmix_adapters.config import BaseShape
from headmix_adapters.families import Part
from headmix_adapters.inject.backbone import backbone_of, family_of_backbone, layers_of
from headmix_adapters.inject.errors import AttachError
from headmix_adapters.sites import symbol_sizes


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of a module's result: these `columns` are the `rows` of the site's result, both half-open ranges."""

    site: str
    columns: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one module in one layer, adapted or not."""

    owner: nn.Module
    attribute: str
    slices: tuple[Slice, ...]

    @property
    def module(self) -> nn.Module:
        """The module currently in this place."""
        return self.owner.get_submodule(self.attribute)

    def replace(self, module: nn.Module) -> None:
        """Put another module in this place."""
        setattr(self.owner, self.attribute, module)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's places, in the order of the family's table."""

    layer: int
    places: tuple[Place, ...]

    def raw_key(self) -> tuple[nn.Module, tuple[int, int]]:
        """Return the module that computes the base's raw keys, and where its result has them."""
        for place in self.places:
            for part in place.slices:
                if part.site == "k":
                    return place.module, part.columns
        raise AttachError(f"layer {self.layer}: the family's table names no key projection")


def find_blocks(model: PreTrainedModel, base: BaseShape, sites: Iterable[str]) -> list[Block]:
    """Return every layer's block with the modules of the attention and of the given sites.

    Raises:
        AttachError: the family is unknown, or a module is missing, already adapted, or of another size.
    """
    backbone = backbone_of(model)
    layers = layers_of(backbone)
    if len(layers) != base.num_layers:
        raise AttachError(f"the adapter's base has {base.num_layers} layers, the model has {len(layers)}")
    wanted = {"q", "k", "v", "o"} | set(sites)
    sizes = symbol_sizes(base, rank=0)
    chosen = {
        path: parts
        for path, parts in family_of_backbone(backbone).modules.items()
        if any(part.site in wanted for part in parts)
    }
    _check_mlp_rows(chosen.values(), sizes)
    return [
        Block(index, tuple(_place(index, layer, path, parts, sizes) for path, parts in chosen.items()))
        for index, layer in enumerate(layers)
    ]


def _check_mlp_rows(parts: Iterable[tuple[Part, ...]], sizes: Mapping[str, int]) -> None:
    rows = [sizes[part.width] for group in parts for part in group if part.site == "gate_up"]
    if rows and sum(rows) != sizes["U"]:
        raise AttachError(
            f"site gate_up has {sizes['U']} rows on the adapter's base, {sum(rows)} in the model's family"
        )


def _place(index: int, layer: nn.Module, path: str, parts: tuple[Part, ...], sizes: Mapping[str, int]) -> Place:
    owner_path, _, attribute = path.rpartition(".")
    try:
        owner = layer.get_submodule(owner_path)
        module = owner.get_submodule(attribute)
    except AttributeError:
        raise AttachError(f"layer {index}: {path} should be a linear projection, found nothing") from None
    slices, column = [], 0
    for part in parts:
        skip = sizes[part.skip] if part.skip else 0
        width = sizes[part.width]
        slices.append(Slice(part.site, (column, column + width), (skip, skip + width)))
        column += width
    actual, expected = _sizes(module), (sizes[parts[0].reads], column)
    if actual is None:
        raise AttachError(f"layer {index}: {path} should be a linear projection, found {type(module).__name__}")
    if actual != expected:
        raise AttachError(f"layer {index}: {path} maps {actual}, the adapter's base {expected}")
    return Place(owner, attribute, tuple(slices))


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """Return a projection's input and output width, or None for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return None
