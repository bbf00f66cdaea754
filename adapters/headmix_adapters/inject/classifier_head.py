"""The trainable classification head: token states in, label scores out, as `reference` defines them."""

from collections.abc import Mapping
from typing import cast

import torch
from msgspec import UNSET
from torch import Tensor, nn

from headmix_adapters import reference
from headmix_adapters.config import ClassifierConfig


class ClassifierHead(nn.Module):
    """Holds the `classifier.*` tensors of an artifact, in float32."""

    def __init__(self, config: ClassifierConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self._names = {name: name.replace(".", "_") for name in tensors}
        for name, tensor in tensors.items():
            self.register_parameter(self._names[name], nn.Parameter(tensor))

    def tensors(self) -> dict[str, nn.Parameter]:
        """Return the parameters under their artifact names."""
        return {name: cast("nn.Parameter", getattr(self, attribute)) for name, attribute in self._names.items()}

    def forward(self, states: Tensor, attention_mask: Tensor, input_ids: Tensor | None = None) -> Tensor:
        """Return label scores [texts, labels] from states [texts, tokens, D] and the mask of real tokens.

        A head that skips a padding token needs `input_ids` [texts, tokens].
        """
        if input_ids is None:
            if self.config.pad_token is not UNSET:
                raise ValueError("a head with a pad_token needs input_ids")
            input_ids = torch.zeros_like(attention_mask)
        rows = [
            reference.pool_text(self.config, row[mask.bool()], ids[mask.bool()].tolist())
            for row, mask, ids in zip(states, attention_mask, input_ids, strict=True)
        ]
        tensors: dict[str, Tensor] = dict(self.tensors())
        return reference.classify(self.config, torch.stack(rows).float(), tensors)
