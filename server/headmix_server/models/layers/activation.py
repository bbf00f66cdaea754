"""The activation functions of the supported families, by their names in config.json, and their gated forms."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import Tensor
from torch.nn.functional import gelu, relu, silu

from headmix_server.kernels.row_ops import RowOps

Activation = Callable[[Tensor], Tensor]

_gelu_tanh = partial(gelu, approximate="tanh")

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "gelu": gelu,
        "gelu_new": _gelu_tanh,  # GPT-2's own formula and torch's tanh form are the same function
        "gelu_pytorch_tanh": _gelu_tanh,
        "relu": relu,
        "silu": silu,
        "swish": silu,
    }
)


def gated(name: str, ops: RowOps) -> Activation:
    """Return the function that computes activation(gate) * up from [tokens, 2 I], gate first."""
    activation = ACTIVATIONS[name]
    if activation is silu:
        return ops.gated_silu

    def compute(gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return activation(gate).mul_(up)

    return compute
