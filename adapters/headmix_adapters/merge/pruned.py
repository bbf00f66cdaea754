"""TIES and DARE: merges that leave out part of each adapter's numbers, by PEFT's own functions.

They act on what each term adds, written out as full matrices (PEFT's `ties_svd`, `dare_linear_svd`, `dare_ties_svd`).
The result has no low rank of its own and is factored again by SVD. Loads PEFT.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.options import PrunedMethod
from headmix_adapters.merge.reduce import factored, loss_note, relative
from headmix_adapters.merge.terms import Addition, LowRank, Terms

_Function = Callable[[list[Tensor], Tensor], Tensor]


def prune(
    additions: Sequence[Addition], method: PrunedMethod, density: float, seed: int, rank: int | None
) -> tuple[Terms, tuple[str, ...]]:
    """Return the merged terms, and a note about what factoring each of them lost.

    `rank` is that of every part; by default a part keeps the largest rank that it has in an adapter, as in PEFT.

    Raises:
        MergeError: PEFT is not installed.
    """
    merging = _Pruned(method, density, seed)
    terms: Terms = {}
    notes: list[str] = []
    for key in dict.fromkeys(key for addition in additions for key in addition.terms):
        own = [addition.terms.get(key, {}) for addition in additions]
        largest = max(low.rank for layers in own for low in layers.values())
        lost, whole = [], []
        for layer in sorted({layer for layers in own for layer in layers}):
            chosen = [
                (addition.weight, layers[layer])
                for addition, layers in zip(additions, own, strict=True)
                if layer in layers
            ]
            halves = 2 if key.site == "gate_up" and additions[0].artifact.config.base.gated_mlp else 1
            low, out, square = merging.layer(chosen, min(rank or largest, _full_rank(chosen[0][1])), halves)
            terms.setdefault(key, {})[layer] = low
            lost.append(out)
            whole.append(square)
        notes.append(loss_note(key, f"{method} keeps rank {rank or largest}", relative(lost, whole)))
    return terms, tuple(notes)


class _Pruned:
    """One merge by TIES or DARE: its function with its density, and the random numbers that DARE draws."""

    def __init__(self, method: PrunedMethod, density: float, seed: int) -> None:
        self._function = _function(method, density)
        self._state = torch.Generator().manual_seed(seed).get_state()

    def layer(self, chosen: Sequence[tuple[float, LowRank]], rank: int, halves: int) -> tuple[LowRank, Tensor, Tensor]:
        """Merge one layer's weighted terms and factor the result; see `factored` for the rest of it.

        `halves` is 2 for two projections stored as one matrix, which PEFT prunes separately.
        """
        products = [(low.B @ low.A).chunk(halves, dim=-2) for _, low in chosen]
        weights = [weight for weight, _ in chosen]
        merged = torch.cat([self._merge([one[half] for one in products], weights) for half in range(halves)], dim=-2)
        A, B, lost, whole = factored(merged, rank)
        biases = [(weight, low.bias) for weight, low in chosen if low.bias is not None]
        bias = self._merge([one for _, one in biases], [weight for weight, _ in biases]) if biases else None
        return LowRank(A, B, bias), lost, whole

    def _merge(self, tensors: list[Tensor], weights: list[float]) -> Tensor:
        """Call PEFT's function; it draws from torch's global generator, which is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            merged = self._function(tensors, torch.tensor(weights, dtype=torch.float64))
            self._state = torch.get_rng_state()
        return merged


def _full_rank(low: LowRank) -> int:
    return min(low.A.shape[-1], low.B.shape[-2])


def _function(method: PrunedMethod, density: float) -> _Function:
    try:
        from peft.utils import merge_utils
    except ImportError as error:
        raise MergeError("method", f"{method} needs the package peft: install 'headmix[merge]'") from error
    functions = {"ties": merge_utils.ties, "dare-linear": merge_utils.dare_linear, "dare-ties": merge_utils.dare_ties}
    return cast("_Function", partial(functions[method], density=density))
