"""What attaching needs to know of a transformers model: its decoder, its attention blocks and their projections.

Covers the Llama family: attention modules with separate q_proj, k_proj, v_proj and o_proj whose query/key
normalisation, if any, comes after the projections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import symbol_sizes

_PROJECTIONS = {"q": ("D", "HP"), "k": ("D", "GP"), "v": ("D", "GP"), "o": ("HP", "D")}


class AttachError(ValueError):
    """The adapter and the model do not fit each other; the message names the part."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One layer's attention block."""

    layer: int
    module: nn.Module

    def projection(self, site: str) -> nn.Linear:
        """Return the module that projects for a site, adapted or not."""
        return cast("nn.Linear", getattr(self.module, f"{site}_proj"))

    def replace(self, site: str, module: nn.Module) -> None:
        """Put another module in the place of a site's projection."""
        setattr(self.module, f"{site}_proj", module)


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """Return the stack of layers below a model's head (ending with the final norm)."""
    return cast("nn.Module", getattr(model, model.base_model_prefix, model))


def output_head_of(model: PreTrainedModel) -> nn.Module:
    """Return the module that turns states into vocabulary scores.

    Raises:
        AttachError: the model generates nothing.
    """
    find: Callable[[], object] = model.get_output_embeddings
    head = find()
    if not isinstance(head, nn.Module):
        raise AttachError(f"{type(model).__name__} has no output head")
    return head


def replace_output_head(model: PreTrainedModel, head: nn.Module) -> None:
    """Put another module in the place of the output head."""
    put: Callable[[nn.Module], None] = model.set_output_embeddings
    put(head)


def layers_of(decoder: nn.Module) -> nn.ModuleList:
    """Return the decoder's layers.

    Raises:
        AttachError: the model has no list of layers where the Llama family has it.
    """
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise AttachError(
            f"{type(decoder).__name__} has no list of decoder layers; adapters attach to the Llama family"
        )
    return layers


def attentions(model: PreTrainedModel, base: BaseShape) -> list[Attention]:
    """Return every layer's attention block, checked against the base's dimensions.

    Raises:
        AttachError: a projection is missing, already adapted, or of another size.
    """
    layers = layers_of(decoder_of(model))
    if len(layers) != base.num_layers:
        raise AttachError(f"the adapter's base has {base.num_layers} layers, the model has {len(layers)}")
    blocks = [Attention(index, getattr(layer, "self_attn", layer)) for index, layer in enumerate(layers)]
    for block in blocks:
        _check_projections(block, base)
    return blocks


def _check_projections(block: Attention, base: BaseShape) -> None:
    sizes = symbol_sizes(base, rank=0)
    for site, (inner, outer) in _PROJECTIONS.items():
        module = getattr(block.module, f"{site}_proj", None)
        if not isinstance(module, nn.Linear):
            found = type(module).__name__ if module is not None else "nothing"
            raise AttachError(f"layer {block.layer}: {site}_proj should be a linear projection, found {found}")
        expected = (sizes[inner], sizes[outer])
        if (module.in_features, module.out_features) != expected:
            actual = (module.in_features, module.out_features)
            raise AttachError(f"layer {block.layer}: {site}_proj maps {actual}, the adapter's base {expected}")
