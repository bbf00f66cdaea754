"""The trainable classification head: token states in, label scores out, as `reference` defines them."""

from collections.abc import Mapping
from typing import cast

import torch
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

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Return label scores [texts, labels] from states [texts, tokens, D] and the mask of real tokens."""
        rows = [
            reference.pool(row[mask.bool()], self.config.pooling)
            for row, mask in zip(states, attention_mask, strict=True)
        ]
        tensors: dict[str, Tensor] = dict(self.tensors())
        return reference.classify(self.config, torch.stack(rows).float(), tensors)
