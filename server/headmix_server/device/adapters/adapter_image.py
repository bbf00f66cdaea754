"""An adapter's image: the layer tensors of its artifact in one flat array of numbers, laid out as kernels read them.

Every adapted layer has a block of the same size. For each configured term, in the order of the table of shapes, a block
contains A, then B, then the bias, each at a multiple of `ALIGNMENT`. A is in the artifact's own order; B is rank-major
([heads, r, out] or [r, out]), so that shrinking is a dot product and expanding a sum of contiguous rows. Scales are
kept separately, in float32, so that storing bfloat16 as bfloat16 loses nothing. Owns the layout; does not know where a
device keeps the image. Built on loader threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from headmix_adapters.artifact.parse import StoredArtifact
from headmix_adapters.config import AdapterConfig
from headmix_adapters.sites import TERMS, Shape, TermConfig, iter_terms, term_shapes
from headmix_server.core.runner import AdapterLoadError
from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX

ALIGNMENT = 16
"""In numbers. Tensors start at multiples of it, and images should too, so that a vector load never straddles two."""


@dataclass(frozen=True, slots=True)
class TermPlace:
    """Where a term's tensors start in every layer's block; `bias` is None if it has none."""

    config: TermConfig
    shapes: dict[str, Shape]
    A: int
    B: int
    bias: int | None

    @property
    def key(self) -> tuple[str, str, str]:
        """The term's site, part and input."""
        return (self.config.term.site, self.config.term.part, self.config.term.input)


@dataclass(frozen=True, slots=True)
class AdapterImage:
    """See the module. `layers` are the adapted layers in the order of their blocks."""

    numbers: Tensor  # [len(layers) * block] bfloat16 if every layer tensor is stored as bfloat16, else float32
    layers: tuple[int, ...]
    places: tuple[TermPlace, ...]
    offsets: Tensor  # [layers of the base, terms, 3] int64: where A, B and bias start in `numbers`, or ABSENT
    ranks: Tensor  # [terms] int32, 0 if the adapter does not have the term
    scales: Tensor  # [terms] float32

    def A(self, place: TermPlace) -> Tensor:  # noqa: N802 - the name that the method uses
        """Return a term's A in the artifact's order: [adapted layers, *A's shape]."""
        return self._view(place.A, place.shapes["A"])

    def B(self, place: TermPlace) -> Tensor:  # noqa: N802
        """Return a term's B in the artifact's order, rank last: [adapted layers, *B's shape]."""
        return self._view(place.B, _rank_major(place.shapes["B"])).transpose(-1, -2)

    def bias(self, place: TermPlace) -> Tensor | None:
        """Return a term's bias [adapted layers, *bias' shape], or None if it has none."""
        return None if place.bias is None else self._view(place.bias, place.shapes["bias"])

    def _view(self, start: int, shape: Shape) -> Tensor:
        blocks = self.numbers.view(len(self.layers), -1)  # [adapted layers, block]
        return blocks[:, start : start + prod(shape)].view(-1, *shape)


def make_image(stored: StoredArtifact) -> AdapterImage:
    """Lay out the tensors of an artifact.

    Raises:
        AdapterLoadError: a tensor is missing or does not have the shape that its config requires.
    """
    places, block = _lay_out(stored.config)
    layers = _in_file_order(stored, places)
    numbers = torch.empty(len(layers) * block, dtype=_stored_dtype(stored, layers, places))
    image = AdapterImage(numbers, layers, places, *_tables(stored.config, layers, places, block))
    for place in places:
        _copy(stored, place, "A", image.layers, image.A(place))
        _copy(stored, place, "B", image.layers, image.B(place))
        if (bias := image.bias(place)) is not None:
            _copy(stored, place, "bias", image.layers, bias)
    return image


def _lay_out(config: AdapterConfig) -> tuple[tuple[TermPlace, ...], int]:
    """Return the places of the terms in a block, and the block's size."""
    places: list[TermPlace] = []
    end = 0
    for term in iter_terms(config.sites):
        shapes = term_shapes(term, config.base)
        starts = {}
        for name, shape in shapes.items():
            starts[name] = end
            end = _aligned(end + prod(shape))
        places.append(TermPlace(term, shapes, starts["A"], starts["B"], starts.get("bias")))
    return tuple(places), end


def _tables(
    config: AdapterConfig, layers: tuple[int, ...], places: tuple[TermPlace, ...], block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return offsets, ranks and scales; see `AdapterImage`."""
    offsets = torch.full((config.base.num_layers, len(TERMS), 3), ABSENT, dtype=torch.int64)
    ranks = torch.zeros(len(TERMS), dtype=torch.int32)
    scales = torch.ones(len(TERMS))
    starts = torch.arange(len(layers)) * block
    chosen = torch.tensor(layers, dtype=torch.int64)
    for place in places:
        index = TERM_INDEX[place.key]
        ranks[index], scales[index] = place.config.rank, place.config.scale
        for part, start in enumerate((place.A, place.B, place.bias)):
            if start is not None:
                offsets[chosen, index, part] = starts + start
    return offsets, ranks, scales


def _in_file_order(stored: StoredArtifact, places: tuple[TermPlace, ...]) -> tuple[int, ...]:
    """Order the layers as in the file, so that each tensor, over all layers, is one strided view."""
    if not places:
        return ()
    prefix = places[0].config.prefix
    return tuple(sorted(stored.layers, key=lambda layer: stored.start(f"layers.{layer}.{prefix}.A")))


def _stored_dtype(stored: StoredArtifact, layers: tuple[int, ...], places: tuple[TermPlace, ...]) -> torch.dtype:
    bf16 = all(stored.dtype(name) == torch.bfloat16 for name in _layer_tensors(layers, places))
    return torch.bfloat16 if bf16 else torch.float32


def _layer_tensors(layers: tuple[int, ...], places: tuple[TermPlace, ...]) -> Iterator[str]:
    suffixes = [f"{place.config.prefix}.{tensor}" for place in places for tensor in place.shapes]
    return (f"layers.{layer}.{suffix}" for layer in layers for suffix in suffixes)


def _copy(stored: StoredArtifact, place: TermPlace, tensor: str, layers: tuple[int, ...], out: Tensor) -> None:
    name = f"{place.config.prefix}.{tensor}"
    found = stored.stack([f"layers.{layer}.{name}" for layer in layers])
    if found.shape != out.shape:
        raise AdapterLoadError(f"{name} has shape {list(found.shape[1:])}, not {list(out.shape[1:])}")
    out.copy_(found)


def _rank_major(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


def _aligned(count: int) -> int:
    return count + -count % ALIGNMENT
