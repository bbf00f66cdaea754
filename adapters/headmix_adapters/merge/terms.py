"""What an artifact adds at each site, as low-rank factors that already contain the scales.

Owns the keys under which adapters' terms meet: two terms can be joined if they act on the same site, in the same part,
and read the same input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from headmix_adapters.artifact import Artifact, verify_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.sites import iter_terms


class TermKey(NamedTuple):
    """A row of the table of shapes, by its site, part and input."""

    site: str
    part: str
    input: str

    @property
    def name(self) -> str:
        """The part's name in a config, for example `sites.q.head`."""
        return f"sites.{self.site}.{self.part}"


class LowRank(NamedTuple):
    """B (A x) + bias in one layer: A (..., r, in), B (..., out, r), with heads first in a head part. r may be 0."""

    A: Tensor
    B: Tensor
    bias: Tensor | None

    @property
    def rank(self) -> int:
        """The number of rows of A."""
        return self.A.shape[-2]


Layers = dict[int, LowRank]
Terms = dict[TermKey, Layers]


@dataclass(frozen=True, slots=True)
class Addition:
    """One adapter of a merge: its artifact, its weight, and its terms by key and layer, in double precision."""

    artifact: Artifact
    weight: float
    terms: Mapping[TermKey, Layers]
    others: Mapping[str, Tensor]


def read_addition(path: Path, weight: float) -> Addition:
    """Read and verify an artifact.

    Raises:
        ArtifactError: the file is not a valid artifact.
        OSError: the file cannot be read.
    """
    artifact = verify_artifact(path, base=None)
    tensors = {name: tensor.double() for name, tensor in load_tensors(path).items()}
    terms: dict[TermKey, Layers] = {}
    for term in iter_terms(artifact.config.sites):
        key = TermKey(term.term.site, term.term.part, term.term.input)
        for layer in artifact.layers:
            prefix = f"layers.{layer}.{term.prefix}"
            bias = tensors.get(f"{prefix}.bias")
            low = LowRank(
                tensors[f"{prefix}.A"],
                tensors[f"{prefix}.B"] * term.scale,
                None if bias is None else bias * term.scale,
            )
            terms.setdefault(key, {})[layer] = low
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("layers.")}
    return Addition(artifact, weight, terms, others)
