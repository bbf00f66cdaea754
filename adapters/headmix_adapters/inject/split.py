"""A decoder cut at its lowest adapted layer: what lies below is frozen, so its states are the same in every epoch.

Training computes `lower` once per text and repeats only `upper`. Both share the decoder's modules; nothing is copied.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from headmix_adapters.inject.decoder import layers_of


@dataclass(frozen=True, slots=True)
class SplitDecoder:
    """The layers below `at`, ending without a norm, and the layers from `at` on, ending with the final norm."""

    at: int
    lower: nn.Module
    upper: nn.Module

    def prefix_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states that enter layer `at`: [texts, tokens] -> [texts, tokens, D]."""
        output = self.lower(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return cast("Tensor", output.last_hidden_state)


def split_decoder(decoder: nn.Module, at: int) -> SplitDecoder | None:
    """Cut before layer `at`, or return None where a cut would change the result.

    That is: nothing to cut off; layers of several kinds, which a decoder tells apart by position; or dropout inside
    the base, which makes every epoch's states new.
    """
    config = getattr(decoder, "config", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if at <= 0 or len(kinds) > 1 or getattr(config, "attention_dropout", None):
        return None
    layers = list(layers_of(decoder))
    return SplitDecoder(
        at=at,
        lower=_view(decoder, layers=nn.ModuleList(layers[:at]), norm=nn.Identity()),
        upper=_view(decoder, layers=nn.ModuleList(layers[at:])),
    )


def _view(decoder: nn.Module, **children: nn.Module) -> nn.Module:
    """Return a second module over the same children, some of them replaced."""
    view = decoder.__new__(type(decoder))
    view.__dict__.update(decoder.__dict__)
    view.__dict__["_modules"] = dict(decoder.named_children()) | children
    return view
