"""A base's projections in 8 bits on a GPU, by torchao: weights only; activations keep the compute dtype.

The look-up table of tokens, and a head tied to it, stay in the compute dtype. Adapters are never quantised. Needs the
extra `cuda`; torchao is imported when a format is made.
"""

import importlib.util
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module

from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.linear import Linear, PlainLinear
from headmix_server.models.formats.linear_format import PLAIN
from headmix_server.models.layers.token_table import TokenTable

FP8_CAPABILITY = (8, 9)
"""The minimum compute capability whose tensor cores support float8."""


class TorchaoFormat:
    """See `models.formats.linear_format.LinearFormat`.

    Raises:
        UnsupportedModelError: torchao is not installed, or the GPU does not support the format.
    """

    def __init__(self, kind: Literal["int8", "fp8"], device: torch.device) -> None:
        if importlib.util.find_spec("torchao") is None:
            raise UnsupportedModelError(f"--quantize {kind} on a GPU needs torchao: pip install 'headmix[cuda]'")
        if kind == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
            found = ".".join(map(str, torch.cuda.get_device_capability(device)))
            raise UnsupportedModelError(f"--quantize fp8 needs compute capability 8.9; this GPU has {found}")
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

        self.name = f"torchao {kind}"
        self._config = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Linear:
        """See `LinearFormat`: each output's weights have their own scale."""
        from torchao.quantization import quantize_

        holder = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        holder.weight = torch.nn.Parameter(weight, requires_grad=False)
        quantize_(holder, self._config, filter_fn=_every)
        return PlainLinear(holder.weight.detach(), bias)

    def table(self, rows: Tensor) -> TokenTable:
        """See `LinearFormat`."""
        return PLAIN.table(rows)

    def tied(self, rows: Tensor, parameters: int) -> tuple[TokenTable, Linear]:
        """See `LinearFormat`."""
        return PLAIN.tied(rows, parameters)


def _every(module: Module, name: str) -> bool:
    """Select every module that torchao asks about: only one was passed to it."""
    del module, name
    return True
