"""From the LoRAs of single modules to an artifact's sites: the exact algebra of regrouping low-rank products.

Owns stacking (several modules of one site), slicing (one fused module of several sites), padding with zero ranks,
folding unequal scales into B, and biases, which only head parts have; `head_parts` regroups block-diagonal factors.
Knows nothing about files or foreign tensor names.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import torch
from torch import Tensor

from headmix_adapters.artifact import Limits
from headmix_adapters.config import BaseShape, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.head_parts import head_rank, head_tensors, is_by_head, repeats_blocks
from headmix_adapters.convert.peft.module_lora import ModuleLora, Piece
from headmix_adapters.families import Part, family_of
from headmix_adapters.presets import HEAD_BASES
from headmix_adapters.sites import TERMS, iter_terms, symbol_sizes, term_shapes

SITE_ROWS: Mapping[str, str] = MappingProxyType(
    {term.site: term.B[0] for term in TERMS.values() if term.part == "shared"}
)
"""The symbol of every site's number of rows."""


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
        pieces[part.site] = Piece(lora.name, A[used], B, bias, lora.scale, lora.blocks)
    return pieces


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def build_sites(pieces: Pieces, base: BaseShape, limits: Limits) -> SitesResult:
    """Regroup all pieces, by layer and site, into one config and its tensors.

    Raises:
        ConvertError: a site's rank exceeds the limits, or there is a bias where no artifact can have one.
    """
    notes: list[str] = []
    sites: dict[str, SiteConfig] = {}
    folded: set[str] = set()
    for name in (name for name in SITE_ROWS if any(name in layer for layer in pieces.values())):
        layers = [layer.get(name, []) for layer in pieces.values()]
        by_head = [[piece for piece in layer if is_by_head(name, piece)] for layer in layers]
        of_all = [[piece for piece in layer if not is_by_head(name, piece)] for layer in layers]
        shared = _shared_part(name, of_all, limits.most_rank(name), folded, notes)
        head = _head_part(name, by_head, base, limits.most_rank(name), folded, notes)
        head = _with_bias(name, head, _flat(layers), base, folded, notes)
        if shared is not None or head is not None:
            sites[name] = SiteConfig(head=head, shared=shared)
    config = Sites(**sites)
    tensors = {
        f"layers.{layer}.{name}": tensor
        for layer, by_site in pieces.items()
        for name, tensor in _layer_tensors(config, by_site, folded, base).items()
    }
    return SitesResult(config, tensors, tuple(notes), bool(folded))


def _shared_part(
    site: str, layers: list[list[Piece]], max_rank: int, folded: set[str], notes: list[str]
) -> SharedPart | None:
    widest = max(layers, key=_rank)
    rank = _rank(widest)
    if rank > max_rank:  # before padding all layers to it
        raise ConvertError(f"sites.{site}.shared.rank", f"{_sum(widest)} is not between 1 and {max_rank}")
    if not rank:
        return None
    if any(piece.blocks for piece in _flat(layers)):
        notes.append(f"site {site}: block-diagonal factors were written out, since the site has no such head part")
    return SharedPart(rank=rank, scale=_common_scale(f"{site}.shared", _flat(layers), folded, notes))


def _head_part(
    site: str, layers: list[list[Piece]], base: BaseShape, max_rank: int, folded: set[str], notes: list[str]
) -> HeadPart | None:
    rank = max((head_rank(site, layer, base) for layer in layers if layer), default=0)
    if rank > max_rank:
        raise ConvertError(f"sites.{site}.head.rank", f"{rank} is not between 1 and {max_rank}")
    if not rank:
        return None
    if any(repeats_blocks(site, layer, base) for layer in layers if layer):
        notes.append(f"site {site}: blocks that several heads share were repeated for each of them")
    scale = _common_scale(f"{site}.head", _flat(layers), folded, notes)
    return HeadPart(rank=rank, base=HEAD_BASES[site], scale=scale, bias=False)


def _with_bias(
    site: str, head: HeadPart | None, group: list[Piece], base: BaseShape, folded: set[str], notes: list[str]
) -> HeadPart | None:
    """Return the head part with the pieces' biases, which are stored with their scales multiplied in."""
    biased = next((piece for piece in group if piece.bias is not None), None)
    if biased is None:
        return head
    if site in HEAD_BASES:
        folded.add(f"{site}.head")
        if head is None:
            notes.append(f"site {site}: the bias of B became that of a head part of rank 1 whose A and B are zero")
            return HeadPart(rank=1, base=HEAD_BASES[site])
        return msgspec.structs.replace(head, bias=True, scale=1.0)
    # Without rotary positions a constant added to every key shifts all scores of a query equally; softmax ignores it.
    if site == "k" and not family_of(base.model_type).rotary:
        notes.append("site k: a bias in every key changes no attention weight and was left out")
        return head
    raise ConvertError(biased.name, f"lora_bias: an artifact has no bias on site {site}, and this one is not zero")


def _layer_tensors(
    sites: Sites, by_site: Mapping[str, list[Piece]], folded: Collection[str], base: BaseShape
) -> dict[str, Tensor]:
    """Return one layer's tensors, keyed without the layer; sites without a piece in this layer get zeros."""
    tensors: dict[str, Tensor] = {}
    for term in iter_terms(sites):
        site, fold = term.term.site, term.prefix in folded
        group = by_site.get(site, [])
        shapes = term_shapes(term, base)
        if term.term.part == "shared":
            of_all = [piece for piece in group if not is_by_head(site, piece)]
            values = _shared_tensors(of_all, shapes["A"], shapes["B"], fold=fold)
        else:
            by_head = [piece for piece in group if is_by_head(site, piece)]
            values = head_tensors(site, by_head, base, shapes, fold=fold)
            if term.has_bias:
                values["bias"] = _bias(group, shapes["bias"])
        tensors |= {f"{term.prefix}.{name}": value for name, value in values.items()}
    return tensors


def _flat(layers: list[list[Piece]]) -> list[Piece]:
    return [piece for layer in layers for piece in layer]


def _rank(group: Iterable[Piece]) -> int:
    return sum(piece.A.shape[0] for piece in group)


def _sum(group: list[Piece]) -> str:
    """Return a site's rank, with its summands if several modules share the site."""
    if len(group) == 1:
        return str(_rank(group))
    parts = " and ".join(f"{piece.A.shape[0]} of {piece.name.rpartition('.')[2]}" for piece in group)
    return f"{_rank(group)} ({parts}, which an artifact keeps as one)"


def _common_scale(term: str, pieces: list[Piece], folded: set[str], notes: list[str]) -> float:
    """Return the scale all pieces share; if there are several, mark the term: they are multiplied into B."""
    scales = {piece.scale for piece in pieces if piece.A.shape[0]}
    if len(scales) == 1:
        return scales.pop()
    folded.add(term)
    notes.append(f"site {term.partition('.')[0]}: {len(scales)} different scales were multiplied into B")
    return 1.0


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


def _bias(group: list[Piece], shape: tuple[int, ...]) -> Tensor:
    total = torch.zeros(shape, dtype=_dtype(group))
    for piece in group:
        if piece.bias is not None:
            total += (piece.bias * piece.scale).view(shape)
    return total


def _dtype(group: list[Piece]) -> torch.dtype:
    return torch.float64 if any(piece.B.dtype == torch.float64 for piece in group) else torch.float32
