"""Base tensors stored next to an adapter's: accepted as unchanged copies, refused if they were retrained.

PEFT saves the vocabulary's embeddings if it thinks they were changed; other tools save whole state dicts.
"""

import re

from torch import Tensor

from headmix_adapters.convert.checkpoint import BaseCheckpoint, bare_name
from headmix_adapters.convert.research.frozen_part import same_values

_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embeddings.word_embeddings.weight")
_WRAPPERS = re.compile(r"\A(?:(?:model|language_model)\.)+(?=\w+\.)")


def base_rows(name: str, tensor: Tensor, checkpoint: BaseCheckpoint, size: int) -> bool:
    """Return whether a tensor is a table of the vocabulary whose first `size` rows are the base's own."""
    own = bare_name(_WRAPPERS.sub("", name))
    if tensor.dim() != 2 or (own != _HEAD and own not in _EMBEDDINGS):
        return False
    found = next((candidate for candidate in (own, *_EMBEDDINGS) if candidate in checkpoint), None)
    return found is not None and same_values(tensor[:size], checkpoint.read(found))


def is_base_copy(name: str, tensor: Tensor, checkpoint: BaseCheckpoint) -> bool:
    """Return whether a tensor next to an adapter's equals the base's own, value by value."""
    own = bare_name(_WRAPPERS.sub("", name.replace(".base_layer.", ".")))
    candidates = (own, *_EMBEDDINGS) if own == _HEAD else (own,)  # a tied head is stored as the embeddings alone
    found = next((candidate for candidate in candidates if candidate in checkpoint), None)
    return found is not None and same_values(tensor, checkpoint.read(found))
