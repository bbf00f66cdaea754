"""Layers whose insides are computed again in the backward pass instead of being kept: less memory, more time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from transformers import PreTrainedModel


@contextmanager
def recomputed_layers(model: PreTrainedModel, *, wanted: bool) -> Iterator[None]:
    """Keep only each layer's input in training steps during the block; does nothing unless `wanted`.

    The random state is restored for the second pass, so that dropout drops the same values.
    """
    if not wanted:
        yield
        return
    # transformers has renamed what it calls gradient checkpointing.
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    enable = cast("Callable[[dict[str, bool]], None]", getattr(model, f"{kind}_checkpointing_enable"))
    disable = cast("Callable[[], None]", getattr(model, f"{kind}_checkpointing_disable"))
    # Re-entrant checkpoints would cut the adapter's gradients off: what enters the first layer has none.
    enable({"use_reentrant": False})
    try:
        yield
    finally:
        disable()
