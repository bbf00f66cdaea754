"""What an adapter adds to one site's weight: the matrix that its terms amount to next to the base's.

Computed by the reference itself, on the columns of an identity matrix. The value's base k is the base's own key, so
its part reads through the key's weight. Biases don't depend on a head's input and are left out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from headmix_adapters import reference
from headmix_adapters.config import BaseShape, SiteConfig, Sites
from headmix_adapters.sites import iter_terms, symbol_sizes

_WIDTHS = {"x": "D", "a": "HP", "m": "D", "i": "I"}


def site_effect(
    site: str, parts: SiteConfig, base: BaseShape, tensors: Mapping[str, Tensor], key: Tensor | None
) -> Tensor:
    """Return the change of a site's weight, (out, in) in float32.

    `tensors` are those of one layer, by names like `q.head.A`; `key` is the base's key matrix, for terms that read it.
    """
    changes = []
    for term in iter_terms(Sites(**{site: parts})):
        A, B = (tensors[f"{term.prefix}.{name}"].float() for name in ("A", "B"))
        changes.append(reference.term_delta(term, _columns(term.term.input, base, key), A, B, None).T)
    return torch.stack(changes).sum(dim=0)


def reads_key(parts: SiteConfig) -> bool:
    """Return whether a site's terms read the base's key."""
    return parts.head is not None and parts.head.base == "k"


def _columns(reads: str, base: BaseShape, key: Tensor | None) -> Tensor:
    """Return what a term reads for each unit vector of the weight's input, one per row."""
    if reads == "k":
        if key is None:
            raise ValueError("a term on the base's key needs the base's key projection")
        return key.T
    return torch.eye(symbol_sizes(base, rank=0)[_WIDTHS[reads]])
