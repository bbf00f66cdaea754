"""The frozen model inside a full-model checkpoint: if it is not the base, the adapter was trained on another model.

Owns the comparison and what may differ: the vocabulary's rows beyond the base's, and unused parts.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.checkpoint import BaseCheckpoint, bare_name
from headmix_adapters.convert.errors import ConvertError

_EMBEDDING = "wte.weight"
# Causal masks, position ids, heads of other tasks, and RoBERTa's pooler, which its classifier does not read.
_IDLE = re.compile(r".*\.attn\.(?:bias|masked_bias)|.*position_ids|.*token_type_ids|pooler\..*|lm_head\.(?!weight).*")


def check_frozen_part(state: Mapping[str, Tensor], base: ResolvedBase, *, allow_mismatch: bool) -> Tensor | None:
    """Compare all non-adapter tensors with the base's; return the embedding rows beyond its vocabulary.

    `allow_mismatch` accepts other values, never other names or shapes.

    Raises:
        ConvertError: a tensor differs from the base's.
    """
    checkpoint = BaseCheckpoint(base.folder)
    added: Tensor | None = None
    for name, tensor in state.items():
        bare = bare_name(name)
        if bare == _EMBEDDING and tensor.shape[0] > base.shape.vocab_size:
            added = tensor[base.shape.vocab_size :]
            _compare(name, tensor[: base.shape.vocab_size], checkpoint.read(bare), allow_mismatch=allow_mismatch)
        elif bare == "lm_head.weight":
            _check_tied(name, tensor, state)
        elif bare in checkpoint:
            _compare(name, tensor, checkpoint.read(bare), allow_mismatch=allow_mismatch)
        elif not _IDLE.fullmatch(bare):
            raise ConvertError(name, "neither the base's nor a known part of an adapter")
    return added


def same_values(tensor: Tensor, own: Tensor) -> bool:
    """Return whether a tensor equals the base's own; either file may store it in lower precision."""
    coarser = min(tensor.dtype, own.dtype, key=lambda dtype: dtype.itemsize)
    return tensor.shape == own.shape and torch.equal(tensor.to(coarser), own.to(coarser))


def _compare(name: str, tensor: Tensor, own: Tensor, *, allow_mismatch: bool) -> None:
    if tensor.shape != own.shape:
        raise ConvertError(name, f"its shape is {list(tensor.shape)}, the base's {list(own.shape)}")
    if not allow_mismatch and not same_values(tensor, own):
        raise ConvertError(
            name, "its values are not the base's, so the adapter is for another base; --allow-base-mismatch"
        )


def _check_tied(name: str, head: Tensor, state: Mapping[str, Tensor]) -> None:
    embedding = next((tensor for key, tensor in state.items() if bare_name(key) == _EMBEDDING), None)
    if embedding is not None and not torch.equal(head, embedding):
        raise ConvertError(name, "it differs from the input embedding, to which the base's head is tied")
