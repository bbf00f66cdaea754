"""A layer's MLP, gated (Llama's) or plain (GPT-2's, BERT's), with the adapters' additions."""

from dataclasses import dataclass

from torch import Tensor

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.models.formats.linear import Linear
from headmix_server.models.layers.activation import Activation


@dataclass(frozen=True, slots=True)
class Mlp:
    """One layer's MLP. If it is gated, `gate_up` is both projections stacked, gate first: (2 I, D); else (I, D).

    `activation` maps the result of `gate_up` to the input of `down`.
    """

    layer: int
    gate_up: Linear
    down: Linear  # (D, I)
    activation: Activation

    def __call__(self, x: Tensor, adapters: StepAdapters | None) -> Tensor:
        """Compute [tokens, D] -> [tokens, D]."""
        gate_up = self.gate_up(x)
        if adapters is not None:
            adapters.add_gate_up(self.layer, x, gate_up)
        inner = self.activation(gate_up)
        out = self.down(inner)
        if adapters is not None:
            adapters.add_down(self.layer, inner, out)
        return out
