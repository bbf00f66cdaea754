"""A stack of layers split at its lowest adapted one: the layers below are frozen, their states equal in every epoch.

Training computes `lower` once per text and repeats only `upper`. Both share the stack's modules; nothing is copied.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from headmix_adapters.inject.backbone import family_of_backbone, layers_of


@dataclass(frozen=True, slots=True)
class SplitBackbone:
    """The layers below `at`, ending without a norm, and the layers from `at` on, ending with the final norm."""

    at: int
    lower: nn.Module
    upper: nn.Module

    def prefix_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states that enter layer `at`: [texts, tokens] -> [texts, tokens, D]."""
        output = self.lower(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return cast("Tensor", output.last_hidden_state)


def split_backbone(backbone: nn.Module, at: int) -> SplitBackbone | None:
    """Split before layer `at`, or return None if there is nothing to split off or a split would change the result.

    It would for a family that adds positions to whatever enters; for layers of several kinds, which a model
    distinguishes by position; and with dropout inside the base, which makes the states different in every epoch.
    """
    config = getattr(backbone, "config", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    enters_plain = family_of_backbone(backbone).enters_plain
    if at <= 0 or not enters_plain or len(kinds) > 1 or getattr(config, "attention_dropout", None):
        return None
    layers = list(layers_of(backbone))
    return SplitBackbone(
        at=at,
        lower=_view(backbone, layers=nn.ModuleList(layers[:at]), norm=nn.Identity()),
        upper=_view(backbone, layers=nn.ModuleList(layers[at:])),
    )


def _view(backbone: nn.Module, **children: nn.Module) -> nn.Module:
    """Return a second module with the same children, some of them replaced."""
    view = backbone.__new__(type(backbone))
    view.__dict__.update(backbone.__dict__)
    view.__dict__["_modules"] = dict(backbone.named_children()) | children
    return view
