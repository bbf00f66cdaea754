"""What a step needs of the kernels: which ones to launch, and how much scratch between two launches.

Known on the host from the adapters' configs. Importing this does not import Triton.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from headmix_adapters.config import BaseShape

PARTS = 4
"""The number of partial sums that a product over long inputs is cut into; see `kernels.triton.shrink`."""

TermKey = tuple[str, str, str]
"""Site, part and input, as in the table of shapes."""


@dataclass(frozen=True, slots=True)
class Launches:
    """The sites whose kernels run. If no adapter of the step has a site, its kernels are skipped."""

    qkv: bool
    o: bool
    gate_up: bool
    down: bool

    @classmethod
    def of(cls, terms: Collection[TermKey]) -> "Launches":
        """Return what adapters with these terms need."""
        sites = {site for site, _, _ in terms}
        return cls(bool(sites & {"q", "k", "v"}), "o" in sites, "gate_up" in sites, "down" in sites)

    @classmethod
    def every(cls) -> "Launches":
        """Return the launches of all sites."""
        return cls(qkv=True, o=True, gate_up=True, down=True)

    def __or__(self, other: "Launches") -> "Launches":
        return Launches(
            self.qkv or other.qkv, self.o or other.o, self.gate_up or other.gate_up, self.down or other.down
        )


def z_width(base: BaseShape, ranks: Mapping[TermKey, int]) -> int:
    """Return how many values a row has between shrinking and expanding, for an adapter with at most these ranks.

    Terms that read the same inputs share a launch. The value's term from the key has none: one program does both.
    """
    heads = {("q", "head"): base.num_heads, ("v", "head"): base.num_kv_heads, ("o", "head"): base.num_heads}
    widths = {"x": 0, "a": 0, "m": 0, "i": 0, "k": 0}
    for (site, part, read), rank in ranks.items():
        if read != "k":
            widths[read] += rank * heads.get((site, part), 1) * parts_of((site, part, read))
    return max(widths.values())


def parts_of(term: TermKey) -> int:
    """Return how many sums a term's product is cut into; the output's head parts read one head each, which is short."""
    return 1 if term == ("o", "head", "a") else PARTS
