"""The authors' published shapes by name (DESIGN section 2) and the builders that turn ranks into `Sites`.

Owns the numbers only; `sites` and `reference` define what the terms mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from headmix_adapters.config import HeadBase, HeadPart, SharedPart, SiteConfig, Sites

PresetName = Literal["gpt2-nlg", "roberta-nlu", "lite-qv", "lite-qvo"]

HEAD_BASES: Mapping[str, HeadBase] = MappingProxyType({"q": "x", "v": "x", "o": "a"})
"""What a LoRA on each site reads; the head part of these sites can read it too."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The four ranks of the paper's configs; 0 omits the part. `output` says whether site o is adapted."""

    q: int
    v: int
    q_shared: int
    v_shared: int
    output: bool = True


def preset_ranks(name: PresetName) -> Ranks:
    """Return a preset's ranks; `lite` presets have only the GPT-2 preset's head parts."""
    match name:
        case "gpt2-nlg":
            return Ranks(3, 8, 12, 8)
        case "roberta-nlu":
            return Ranks(1, 2, 2, 4)
        case "lite-qv":
            return Ranks(3, 8, 0, 0, output=False)
        case "lite-qvo":
            return Ranks(3, 8, 0, 0)


def kernel_mix_sites(ranks: Ranks, *, value_base: Literal["k", "x"] = "k") -> Sites:
    """Build the sites of a Kernel-mix adapter; o takes v's ranks, as in the paper's configs."""
    return Sites(
        q=_site(ranks.q, "x", ranks.q_shared),
        v=_site(ranks.v, value_base, ranks.v_shared),
        o=_site(ranks.v, "a", ranks.v_shared) if ranks.output else None,
    )


def _site(head_rank: int, base: Literal["x", "k", "a"], shared_rank: int) -> SiteConfig | None:
    head = HeadPart(rank=head_rank, base=base) if head_rank else None
    shared = SharedPart(rank=shared_rank) if shared_rank else None
    return SiteConfig(head=head, shared=shared) if head or shared else None
