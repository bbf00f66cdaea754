"""The frozen layers below the lowest adapted one, computed once per training text instead of once per epoch.

Owns when that pays off and how much memory it may use. The results are those of a full forward pass, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from headmix_adapters.inject.split import SplitBackbone
from headmix_adapters.train.data.batches import by_length, collate
from headmix_adapters.train.data.examples import Example

_MAX_BYTES = 4 * 2**30


def prefix_pays(examples: Sequence[Example], hidden_size: int, item_bytes: int, epochs: float) -> bool:
    """Return whether texts are read more than once and their states fit in 4 GiB."""
    tokens = sum(len(example.input_ids) for example in examples)
    return epochs > 1 and tokens * hidden_size * item_bytes <= _MAX_BYTES


@torch.no_grad()
def with_prefix_states(
    examples: Sequence[Example], split: SplitBackbone, device: torch.device, batch_size: int
) -> list[Example]:
    """Return the examples in their order, each with the states that enter the lowest adapted layer.

    Batches are formed only by length, so the states do not depend on seed, epoch or resuming.
    """
    numbered = {id(example): number for number, example in enumerate(examples)}
    result = list(examples)
    for batch in by_length(examples, batch_size):
        tensors = {name: tensor.to(device) for name, tensor in collate(batch).items()}
        states = split.prefix_states(tensors["input_ids"], tensors["attention_mask"])
        for example, row in zip(batch, states, strict=True):
            own = row[: len(example.input_ids)].cpu().clone()
            result[numbered[id(example)]] = replace(example, prefix_states=own)
    return result
