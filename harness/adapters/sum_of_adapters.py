"""One adapter that computes what several add together, each times its scale: the plainest oracle for their sum."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from headmix_adapters.artifact.parse import StoredArtifact, read_stored
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.sites import TermConfig, iter_terms, term_shapes

Key = tuple[str, str]
"""A site and a part."""


def write_sum(path: Path, parts: Sequence[tuple[Path, float]]) -> str:
    """Write the sum of adapters whose value heads read the same input; the head is the first one's. Return the digest.

    The ranks of a term follow one another, with the scales in B and the bias.
    """
    stored = [(read_stored(bytearray(part.read_bytes())), scale) for part, scale in parts]
    terms: dict[Key, list[tuple[StoredArtifact, TermConfig, float]]] = {}
    for artifact, scale in stored:
        for term in iter_terms(artifact.config.sites):
            terms.setdefault((term.term.site, term.term.part), []).append((artifact, term, scale))
    first = stored[0][0]
    tensors = {name: first.tensor(name).clone() for name in first.names() if not name.startswith("layers.")}
    for layer in sorted({layer for artifact, _ in stored for layer in artifact.layers}):
        for found in terms.values():
            tensors |= _summed(layer, found)
    config = msgspec.structs.replace(first.config, sites=_sites(terms))
    return write_artifact(path, config, {name: tensor.float() for name, tensor in tensors.items()}, torch.float32)


def _summed(layer: int, found: Sequence[tuple[StoredArtifact, TermConfig, float]]) -> dict[str, Tensor]:
    """Return one term's tensors in a layer; an adapter without them adds zeros."""
    pieces: dict[str, list[Tensor]] = {}
    prefix = f"layers.{layer}.{found[0][1].prefix}"
    for artifact, term, scale in found:
        for name, shape in term_shapes(term, artifact.config.base).items():
            full = f"{prefix}.{name}"
            tensor = artifact.tensor(full).float() if full in artifact.names() else torch.zeros(shape)
            pieces.setdefault(name, []).append(tensor if name == "A" else tensor * (scale * term.scale))
    summed = {f"{prefix}.A": torch.cat(pieces["A"], dim=-2), f"{prefix}.B": torch.cat(pieces["B"], dim=-1)}
    if "bias" in pieces:
        summed[f"{prefix}.bias"] = torch.stack(pieces["bias"]).sum(0)
    return summed


def _sites(terms: Mapping[Key, Sequence[tuple[StoredArtifact, TermConfig, float]]]) -> Sites:
    parts: dict[str, SiteConfig] = {}
    for (site, part), found in terms.items():
        rank = sum(term.rank for _, term, _ in found)
        before = parts.get(site, SiteConfig())
        if part == "shared":
            parts[site] = msgspec.structs.replace(before, shared=SharedPart(rank=rank))
            continue
        (base,) = {term.term.input for _, term, _ in found}
        bias = any(term.has_bias for _, term, _ in found)
        parts[site] = msgspec.structs.replace(before, head=HeadPart(rank=rank, base=base, bias=bias))  # type: ignore[arg-type]  # a head part's input
    return Sites(**parts)
