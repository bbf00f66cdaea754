"""TIES and DARE: merges that leave out part of each adapter's numbers, by PEFT's own functions.

They act on what each term adds, written out as full matrices (PEFT's `ties_svd`, `dare_linear_svd`, `dare_ties_svd`).
What a family computes in one module (GPT-2's queries, keys and values) is one matrix there, and so it is here. The
result has no low rank of its own and is factored again by SVD. Loads PEFT.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.families import FAMILIES
from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.options import PrunedMethod
from headmix_adapters.merge.reduce import factored, loss_note, relative
from headmix_adapters.merge.terms import Addition, LowRank, TermKey, Terms

_Function = Callable[[list[Tensor], Tensor], Tensor]


def prune(
    additions: Sequence[Addition], method: PrunedMethod, density: float, seed: int, rank: int | None
) -> tuple[Terms, tuple[str, ...]]:
    """Return the merged terms, and a note about what factoring each of them lost.

    `rank` is that of every part; by default a part keeps the largest rank that it has in an adapter, as in PEFT.

    Raises:
        MergeError: PEFT is not installed.
    """
    merging, base = _Pruned(method, density, seed), additions[0].artifact.config.base
    terms: Terms = {}
    notes: list[str] = []
    for group in _groups(additions, base):
        layers = [_in_layers(addition, group) for addition in additions]
        largest = max(low.rank for own in layers for parts in own.values() for low in parts.values())
        lost, whole = [], []
        for layer in sorted({layer for own in layers for layer in own}):
            chosen = [
                (addition.weight, own[layer]) for addition, own in zip(additions, layers, strict=True) if layer in own
            ]
            found, out, square = merging.layer(chosen, group, rank or largest, base)
            for key, low in found.items():
                terms.setdefault(key, {})[layer] = low
            lost.append(out)
            whole.append(square)
        loss = relative(lost, whole)
        notes += [loss_note(key, f"{method} keeps rank {rank or largest}", loss) for key in group]
    return terms, tuple(notes)


def _groups(additions: Sequence[Addition], base: BaseShape) -> list[tuple[TermKey, ...]]:
    """Return the terms that PEFT prunes as one matrix: those that the family computes in one module, in its order."""
    keys = dict.fromkeys(key for addition in additions for key in addition.terms)
    family = FAMILIES.get(base.model_type)
    modules = () if family is None else family.modules.values()
    sites = next((names for parts in modules if len(names := [part.site for part in parts]) > 1), [])
    fused = [key for key in keys if key.part == "shared" and key.site in sites]
    fused.sort(key=lambda key: sites.index(key.site))
    return ([tuple(fused)] if fused else []) + [(key,) for key in keys if key not in fused]


def _in_layers(addition: Addition, group: Sequence[TermKey]) -> dict[int, dict[TermKey, LowRank]]:
    found: dict[int, dict[TermKey, LowRank]] = {}
    for key in group:
        for layer, low in addition.terms.get(key, {}).items():
            found.setdefault(layer, {})[key] = low
    return found


class _Pruned:
    """One merge by TIES or DARE: its function with its density, and the random numbers that DARE draws."""

    def __init__(self, method: PrunedMethod, density: float, seed: int) -> None:
        self._function = _function(method, density)
        self._state = torch.Generator().manual_seed(seed).get_state()

    def layer(
        self,
        chosen: Sequence[tuple[float, dict[TermKey, LowRank]]],
        group: Sequence[TermKey],
        rank: int,
        base: BaseShape,
    ) -> tuple[dict[TermKey, LowRank], Tensor, Tensor]:
        """Merge the weighted terms that a group has in one layer and factor the result; see `factored` for the rest."""
        shapes = {key: low for _, parts in chosen for key, low in parts.items()}
        present = [key for key in group if key in shapes]
        # PEFT prunes the gate and the up projection separately, which are stored as one matrix.
        halves = 2 if group[0].site == "gate_up" and base.gated_mlp else 1
        products = [_written_out(parts, present, shapes).chunk(halves, dim=-2) for _, parts in chosen]
        weights = [weight for weight, _ in chosen]
        merged = torch.cat([self._merge([one[half] for one in products], weights) for half in range(halves)], dim=-2)
        A, B, lost, whole = factored(merged, min(rank, *merged.shape[-2:]))
        rows = torch.split(B, [shapes[key].B.shape[-2] for key in present], dim=-2)
        found = {}
        for key, part in zip(present, rows, strict=True):
            biases = [(weight, own[key].bias) for weight, own in chosen if key in own]
            given = [(weight, bias) for weight, bias in biases if bias is not None]
            bias = self._merge([one for _, one in given], [weight for weight, _ in given]) if given else None
            found[key] = LowRank(A, part, bias)
        return found, lost, whole

    def _merge(self, tensors: list[Tensor], weights: list[float]) -> Tensor:
        """Call PEFT's function; it draws from torch's global generator, which is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            merged = self._function(tensors, torch.tensor(weights, dtype=torch.float64))
            self._state = torch.get_rng_state()
        return merged


def _written_out(
    parts: Mapping[TermKey, LowRank], keys: Sequence[TermKey], shapes: Mapping[TermKey, LowRank]
) -> Tensor:
    """Return what an adapter adds as one full matrix, the keys' rows below each other; nothing where it has no term."""
    rows = []
    for key in keys:
        low = parts.get(key)
        rows.append(torch.zeros_like(shapes[key].B @ shapes[key].A) if low is None else low.B @ low.A)
    return torch.cat(rows, dim=-2)


def _function(method: PrunedMethod, density: float) -> _Function:
    try:
        from peft.utils import merge_utils
    except ImportError as error:
        raise MergeError("method", f"{method} needs the package peft: install 'headmix[merge]'") from error
    functions = {"ties": merge_utils.ties, "dare-linear": merge_utils.dare_linear, "dare-ties": merge_utils.dare_ties}
    return cast("_Function", partial(functions[method], density=density))
