"""The adapters of one step as a model sees them: in-place additions to each layer's projections.

The model knows nothing of ranks, slots and terms; given None instead of such an object, it runs the base alone.
"""

from typing import Protocol

from torch import Tensor


class StepAdapters(Protocol):
    """What this step's adapters add to the projections of each layer.

    All tensors are [tokens, dim] rows of the batch, in the shapes of DESIGN section 2 with heads flattened.
    """

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """Replace the embeddings of tokens that adapters added; call right after the lookup, on [tokens, D]."""
        ...

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """Add dq, dk and dv to the base's raw projections of x [tokens, (H + 2 G) * P], queries first.

        The value's head part reads the base's own key, so dk must not have been added to the keys yet.
        """
        ...

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """Add do to the output projection's result [tokens, D]; `attention` is [tokens, H*P]."""
        ...

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """Add to the MLP's input projection of x [tokens, D]: [tokens, 2*I], gate first, or [tokens, I] ungated."""
        ...

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """Add to the MLP's result [tokens, D]; `inner` is the activated product [tokens, I], the input of `down`."""
        ...
