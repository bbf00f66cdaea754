"""The method for ONE adapter, written to be read: the reference every fast path is tested against.

Pure tensor functions on whole layers; they know nothing about batches of adapters, slots, files or models. Autograd
runs through them: training uses these same functions. Source: arXiv 2205.03720, as specified in DESIGN section 2.
"""

from collections.abc import Sequence

import torch
from msgspec import UNSET
from torch import Tensor

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.sites import TermConfig


def head_from_x(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """dq^h = B^h (A^h x), the value's x-based form too: [..., D] -> [..., H, P] with A (H, r, D) and B (H, P, r)."""
    return torch.einsum("hpr,...hr->...hp", B, torch.einsum("hrd,...d->...hr", A, x))


def v_head_from_key(key: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """dv^g = B^g (A^g k^g): [..., G, P] -> [..., G, P] with A (G, r, P) and B (G, P, r)."""
    return torch.einsum("gpr,...gr->...gp", B, torch.einsum("grk,...gk->...gr", A, key))


def o_head(attention: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Do = sum_h B^h (A^h a^h): [..., H, P] -> [..., D] with A (H, r, P) and B (H, D, r)."""
    return torch.einsum("hdr,...hr->...d", B, torch.einsum("hrp,...hp->...hr", A, attention))


def shared(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """B (A x), LoRA's own term: [..., in] -> [..., out] with A (r, in) and B (out, r)."""
    return x @ A.T @ B.T


def term_delta(config: TermConfig, inputs: Tensor, A: Tensor, B: Tensor, bias: Tensor | None) -> Tensor:
    """Return what one term adds to its projection, all heads flattened.

    `inputs` is what the term reads according to the table: x and m [..., D], k [..., G*P], a [..., H*P], i [..., I].
    The result is [..., H*P] for q, [..., G*P] for k and v, [..., D] for o and down, and for gate_up the gate's rows
    followed by the up projection's. The scale multiplies the bias too.
    """
    term = config.term
    match (term.site, term.part, term.input):
        case ("q" | "v", "head", "x"):
            delta = head_from_x(inputs, A, B).flatten(-2)
        case ("v", "head", "k"):
            delta = v_head_from_key(_split_heads(inputs, A.shape[0]), A, B).flatten(-2)
        case ("o", "head", "a"):
            delta = o_head(_split_heads(inputs, A.shape[0]), A, B)
        case (_, "shared", _):
            delta = shared(inputs, A, B)
        case _:
            raise ValueError(f"no such term: {term.site}.{term.part} on {term.input}")
    if bias is not None:
        delta = delta + bias.flatten()
    return delta * config.scale


def _split_heads(flat: Tensor, heads: int) -> Tensor:
    return flat.reshape(*flat.shape[:-1], heads, flat.shape[-1] // heads)


def pool(states: Tensor, pooling: str) -> Tensor:
    """Pool the states of one text into one vector: [tokens, D] -> [D]."""
    match pooling:
        case "last":
            return states[-1]
        case "cls":
            return states[0]
        case "mean":
            return states.mean(dim=0)
    raise ValueError(f"no such pooling: {pooling}")


def pool_text(config: ClassifierConfig, states: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return the vector that a head reads for one text: [tokens, D] -> [D]."""
    if config.pooling == "last" and config.pad_token is not UNSET:
        return states[last_place(tokens, config.pad_token) or 0]
    return pool(states, config.pooling)


def last_place(tokens: Sequence[int], pad_token: int) -> int | None:
    """Return the position of the last token that is not the padding token, or None if there is none."""
    return next((at for at in reversed(range(len(tokens))) if tokens[at] != pad_token), None)


def classify(config: ClassifierConfig, pooled: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Return the label scores (logits) of pooled states: [..., D] -> [..., labels]."""
    if config.kind == "mlp-tanh":
        pooled = torch.tanh(pooled @ tensors["classifier.dense.weight"].T + tensors["classifier.dense.bias"])
    return pooled @ tensors["classifier.out_proj.weight"].T + tensors["classifier.out_proj.bias"]


def label_probabilities(config: ClassifierConfig, logits: Tensor) -> Tensor:
    """Turn label scores into what a client receives: softmax, per-label sigmoid, or the scores alone (regression)."""
    match config.problem:
        case "single_label":
            return logits.softmax(dim=-1)
        case "multi_label":
            return logits.sigmoid()
        case "regression":
            return logits
