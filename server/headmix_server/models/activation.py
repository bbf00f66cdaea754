"""The activation functions of the served families, under the names config.json gives them."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import Tensor
from torch.nn.functional import gelu, relu, silu

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
