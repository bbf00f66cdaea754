"""A transformers model taken apart: the stack of layers below its head, and the head.

Knows how transformers names them; `families` and `blocks` know which module belongs to which site.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headmix_adapters.families import Family, UnknownFamilyError, family_of
from headmix_adapters.inject.errors import AttachError


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """Return the stack of layers below a model's head (ending with the final norm, if there is one)."""
    return cast("nn.Module", getattr(model, model.base_model_prefix, model))


def positions_of(model: PreTrainedModel) -> int | None:
    """Return how many tokens a loaded generator can read at once; None if its config does not say.

    For a base that is not loaded, or reads padding, see `base_positions`.
    """
    found: int | None = getattr(model.config, "max_position_embeddings", None)
    return found


def family_of_backbone(backbone: nn.Module) -> Family:
    """Return the family of a stack of layers.

    Raises:
        AttachError: adapters cannot be attached to its model type.
    """
    try:
        return family_of(str(getattr(getattr(backbone, "config", None), "model_type", type(backbone).__name__)))
    except UnknownFamilyError as error:
        raise AttachError(str(error)) from None


def layers_of(backbone: nn.Module) -> nn.ModuleList:
    """Return the layers of a stack.

    Raises:
        AttachError: they are not where the family's models have them.
    """
    family = family_of_backbone(backbone)
    try:
        layers = backbone.get_submodule(family.layers)
    except AttributeError:
        layers = None
    if not isinstance(layers, nn.ModuleList):
        raise AttachError(f"{type(backbone).__name__} has no list of layers called {family.layers}")
    return layers


def output_head_of(model: PreTrainedModel) -> nn.Module:
    """Return the module that turns states into vocabulary scores.

    Raises:
        AttachError: the model does not generate text.
    """
    find: Callable[[], object] = model.get_output_embeddings
    head = find()
    if not isinstance(head, nn.Module):
        raise AttachError(f"{type(model).__name__} has no output head")
    return head


def replace_output_head(model: PreTrainedModel, head: nn.Module) -> None:
    """Replace the output head with another module."""
    put: Callable[[nn.Module], None] = model.set_output_embeddings
    put(head)


def vocabulary_scores(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return the scores the model itself gives the states after the final norm: [..., D] -> [..., vocabulary].

    In float32, with the soft cap of families that have one (Gemma 2: cap * tanh(score / cap)).

    Raises:
        AttachError: the model does not generate text.
    """
    scores: Tensor = output_head_of(model)(states).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return scores if cap is None else torch.tanh(scores / cap) * cap
