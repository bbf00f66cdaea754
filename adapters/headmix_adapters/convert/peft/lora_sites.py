"""From the LoRAs of single modules to an artifact's sites: the exact algebra of regrouping low-rank products.

Owns stacking (several modules of one site), slicing (one fused module of several sites), padding with zero ranks,
folding unequal scales into B, and biases as head parts of rank 1. Knows nothing about files or foreign tensor names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.families import Part, family_of
from headmix_adapters.presets import HEAD_BASES
from headmix_adapters.sites import TERMS, iter_terms, symbol_sizes, term_shapes

SITE_ROWS: Mapping[str, str] = MappingProxyType(
    {term.site: term.B[0] for term in TERMS.values() if term.part == "shared"}
)
"""The symbol of every site's number of rows."""


@dataclass(frozen=True, slots=True)
class ModuleLora:
    """scale * (B (A x) + bias) next to one module: A (r, in), B (out, r), bias (out). `name` is for messages."""

    name: str
    A: Tensor
    B: Tensor
    bias: Tensor | None
    scale: float


@dataclass(frozen=True, slots=True)
class Piece:
    """One module's share of one layer's site: B and bias have all the site's rows, zero outside the module's own."""

    name: str
    A: Tensor
    B: Tensor
    bias: Tensor | None
    scale: float


@dataclass(frozen=True, slots=True)
class SitesResult:
    """The regrouped adapter; tensors by artifact name, and whether scales or biases were folded into them."""

    sites: Sites
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    folded: bool


Pieces = Mapping[int, Mapping[str, list[Piece]]]


def pieces_of(lora: ModuleLora, parts: Iterable[Part], base: BaseShape) -> dict[str, Piece]:
    """Cut a module's LoRA into the pieces of the sites it feeds, in float32 or better.

    Ranks whose column of B is zero add nothing and are dropped.

    Raises:
        ConvertError: A or B does not fit the module.
    """
    sizes = symbol_sizes(base, rank=0)
    parts = tuple(parts)
    expected = (sizes[parts[0].reads], sum(sizes[part.width] for part in parts))
    if (lora.A.shape[1], lora.B.shape[0]) != expected:
        actual = (lora.A.shape[1], lora.B.shape[0])
        raise ConvertError(lora.name, f"its LoRA maps {actual[0]} to {actual[1]} values, the base has {list(expected)}")
    A, B_all = _wide(lora.A), _wide(lora.B)
    bias_all = None if lora.bias is None else _wide(lora.bias)
    pieces: dict[str, Piece] = {}
    column = 0
    for part in parts:
        width, skip = sizes[part.width], sizes[part.skip] if part.skip else 0
        rows = slice(column, column + width)
        column += width
        own = B_all[rows]
        used = own.ne(0).any(dim=0)
        site_rows = sizes[SITE_ROWS[part.site]]
        B = own.new_zeros(site_rows, int(used.sum()))
        B[skip : skip + width] = own[:, used]
        bias = None
        if bias_all is not None and bias_all[rows].any():
            bias = bias_all.new_zeros(site_rows)
            bias[skip : skip + width] = bias_all[rows]
        pieces[part.site] = Piece(lora.name, A[used], B, bias, lora.scale)
    return pieces


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def build_sites(pieces: Pieces, base: BaseShape, *, max_rank: int) -> SitesResult:
    """Regroup all pieces, by layer and site, into one config and its tensors.

    Raises:
        ConvertError: a site's rank exceeds `max_rank`, or there is a bias where no artifact can have one.
    """
    notes: list[str] = []
    sites: dict[str, SiteConfig] = {}
    scales: dict[str, float] = {}
    names = [name for name in SITE_ROWS if any(name in layer for layer in pieces.values())]
    for name in names:
        group = [piece for layer in pieces.values() for piece in layer.get(name, ())]
        widest = max((layer.get(name, []) for layer in pieces.values()), key=_rank)
        rank = _rank(widest)
        if rank > max_rank:  # before padding all layers to it
            raise ConvertError(f"sites.{name}.shared.rank", f"{_sum(widest)} is not between 1 and {max_rank}")
        scales[name] = _common_scale(name, [piece for piece in group if piece.A.shape[0]], notes)
        shared = SharedPart(rank=rank, scale=scales[name] or 1.0) if rank else None
        head = _bias_part(name, group, base, notes)
        if shared is not None or head is not None:
            sites[name] = SiteConfig(head=head, shared=shared)
    config = Sites(**sites)
    tensors = {
        f"layers.{layer}.{name}": tensor
        for layer, by_site in pieces.items()
        for name, tensor in _layer_tensors(config, by_site, scales, base).items()
    }
    folded = any(scale == 0 for scale in scales.values()) or any(site.head for site in sites.values())
    return SitesResult(config, tensors, tuple(notes), folded)


def _layer_tensors(
    sites: Sites, by_site: Mapping[str, list[Piece]], scales: Mapping[str, float], base: BaseShape
) -> dict[str, Tensor]:
    """Return one layer's tensors, keyed without the layer; sites without a piece in this layer get zeros."""
    tensors: dict[str, Tensor] = {}
    for term in iter_terms(sites):
        group = by_site.get(term.term.site, [])
        shapes = term_shapes(term, base)
        if term.term.part == "shared":
            values = _shared_tensors(group, shapes["A"], shapes["B"], fold=scales[term.term.site] == 0)
        else:
            values = _bias_tensors(group, shapes)
        tensors |= {f"{term.prefix}.{name}": value for name, value in values.items()}
    return tensors


def _rank(group: Iterable[Piece]) -> int:
    return sum(piece.A.shape[0] for piece in group)


def _sum(group: list[Piece]) -> str:
    """Return a site's rank, with its summands if several modules share the site."""
    if len(group) == 1:
        return str(_rank(group))
    parts = " and ".join(f"{piece.A.shape[0]} of {piece.name.rpartition('.')[2]}" for piece in group)
    return f"{_rank(group)} ({parts}, which an artifact keeps as one)"


def _common_scale(site: str, group: list[Piece], notes: list[str]) -> float:
    """Return the scale all pieces share, or 0 if scales differ and must be folded into B."""
    scales = {piece.scale for piece in group}
    if len(scales) <= 1:
        return scales.pop() if scales else 1.0
    notes.append(f"site {site}: {len(scales)} different scales were multiplied into B")
    return 0.0


def _bias_part(site: str, group: list[Piece], base: BaseShape, notes: list[str]) -> HeadPart | None:
    biased = next((piece for piece in group if piece.bias is not None), None)
    if biased is None:
        return None
    if site in HEAD_BASES:
        notes.append(f"site {site}: the bias of B became that of a head part of rank 1 whose A and B are zero")
        return HeadPart(rank=1, base=HEAD_BASES[site])
    # Without rotary positions a constant added to every key shifts all scores of a query equally; softmax ignores it.
    if site == "k" and not family_of(base.model_type).rotary:
        notes.append("site k: a bias in every key changes no attention weight and was left out")
        return None
    raise ConvertError(biased.name, f"lora_bias: an artifact has no bias on site {site}, and this one is not zero")


def _shared_tensors(
    group: list[Piece], a_shape: tuple[int, ...], b_shape: tuple[int, ...], *, fold: bool
) -> dict[str, Tensor]:
    A, B = torch.zeros(a_shape, dtype=_dtype(group)), torch.zeros(b_shape, dtype=_dtype(group))
    first = 0
    for piece in group:
        ranks = slice(first, first + piece.A.shape[0])
        first = ranks.stop
        A[ranks] = piece.A
        B[:, ranks] = piece.B * piece.scale if fold else piece.B
    return {"A": A, "B": B}


def _bias_tensors(group: list[Piece], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    tensors = {name: torch.zeros(shape, dtype=_dtype(group)) for name, shape in shapes.items()}
    for piece in group:
        if piece.bias is not None:
            tensors["bias"] += (piece.bias * piece.scale).view(shapes["bias"])
    return tensors


def _dtype(group: list[Piece]) -> torch.dtype:
    return torch.float64 if any(piece.B.dtype == torch.float64 for piece in group) else torch.float32
