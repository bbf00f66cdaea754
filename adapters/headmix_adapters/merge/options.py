"""How adapters are merged, as the user may choose it. Does not load torch."""

from dataclasses import dataclass
from typing import Literal

PrunedMethod = Literal["ties", "dare-linear", "dare-ties"]
DENSITY = 0.5
"""The share of numbers that TIES and DARE keep by default."""

MergeMethod = Literal["join", "ties", "dare-linear", "dare-ties"]
SEEDED: tuple[MergeMethod, ...] = ("dare-linear", "dare-ties")
"""The methods that drop numbers at random."""


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge. `rank` is the largest rank of a part, which SVD lowers larger ones to; None: exact, or refused.

    `density` is the share of each adapter's numbers that TIES and DARE keep, `seed` decides which DARE keeps.
    `first_head` takes the first adapter's classification head instead of a mean of all.
    """

    weights: tuple[float, ...]
    method: MergeMethod = "join"
    rank: int | None = None
    density: float | None = None
    seed: int = 0
    first_head: bool = False
    allow_base_mismatch: bool = False
