"""Lowers the rank of a low-rank product to the nearest one of that rank, and measures what is lost."""

from math import sqrt

import torch
from torch import Tensor

from headmix_adapters.merge.terms import LowRank, TermKey, Terms


def reduced_terms(terms: Terms, rank: int) -> tuple[Terms, tuple[str, ...]]:
    """Return the terms with ranks of at most `rank`, and a note about each that lost something."""
    result: Terms = {}
    notes: list[str] = []
    for key, layers in terms.items():
        largest = max(low.rank for low in layers.values())
        if largest <= rank:
            result[key] = layers
            continue
        done = {layer: reduced(low, rank) for layer, low in layers.items()}
        result[key] = {layer: low for layer, (low, _, _) in done.items()}
        loss = relative([lost for _, lost, _ in done.values()], [whole for _, _, whole in done.values()])
        notes.append(loss_note(key, f"rank {largest} was lowered to {rank} by SVD", loss))
    return result, tuple(notes)


def loss_note(key: TermKey, what: str, loss: float) -> str:
    """Return the note that says how much of a part was lost."""
    return f"{key.name.removeprefix('sites.')}: {what}, which loses {loss:.2%} of it (Frobenius norm)"


def relative(lost: list[Tensor], whole: list[Tensor]) -> float:
    """Return the norm of what was lost relative to that of the whole, from their squares."""
    total = float(torch.stack(whole).sum())
    return sqrt(float(torch.stack(lost).sum()) / total) if total else 0.0


def reduced(low: LowRank, rank: int) -> tuple[LowRank, Tensor, Tensor]:
    """Return the closest product of at most `rank`, and the squared norms of what was lost and of the whole.

    Of a head part each head's own product. The singular values are found through the QR decompositions of both
    factors, so the product itself is never computed.
    """
    q_up, r_up = torch.linalg.qr(low.B)
    q_down, r_down = torch.linalg.qr(low.A.mT)
    left, values, right = torch.linalg.svd(r_up @ r_down.mT, full_matrices=False)
    squares = values.square()
    B = q_up @ (left[..., :rank] * values[..., None, :rank])
    A = right[..., :rank, :] @ q_down.mT
    return LowRank(A, B, low.bias), squares[..., rank:].sum(), squares.sum()


def factored(product: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return A and B of the closest product of at most `rank` to a full matrix, and the squares as `reduced` does."""
    left, values, right = torch.linalg.svd(product, full_matrices=False)
    squares = values.square()
    B = left[..., :rank] * values[..., None, :rank]
    return right[..., :rank, :], B, squares[..., rank:].sum(), squares.sum()
