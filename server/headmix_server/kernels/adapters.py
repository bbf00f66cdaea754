"""The adapters of one step as a model sees them: in-place additions, one for each site.

Owns the order of terms and their routing; the model stays ignorant of ranks, slots and terms. A model given None
instead of this object runs the base alone.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from headmix_server.kernels import routed
from headmix_server.kernels.added_tokens import AddedInputs
from headmix_server.kernels.route import Route
from headmix_server.kernels.routed import SegmentWeights


class TermWeights(Protocol):
    """Where a term's weights for a step come from: the device's arenas."""

    def for_layer(self, layer: int) -> SegmentWeights | None:
        """Return the weights of a layer by segment, or None where no segment's adapter adapts it."""
        ...


class StepAdapters:
    """What this step's adapters add to the projections of each layer.

    `terms` maps (site, part, input) of the table of shapes to weights; all tensors are [tokens, dim] rows of the batch,
    in the shapes of DESIGN section 2 with heads flattened. `added` None: no row's token is one an adapter added.
    """

    def __init__(
        self, route: Route, terms: Mapping[tuple[str, str, str], TermWeights], added: AddedInputs | None = None
    ) -> None:
        self._route = route
        self._terms = terms
        self._added = added

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """Put in the embeddings of tokens that adapters added; call right after the lookup, on [tokens, D]."""
        if self._added is not None:
            self._added.put(embeddings)

    def add_q(self, layer: int, x: Tensor, q: Tensor) -> None:
        """Add dq to the raw query projection [tokens, H*P]."""
        segments = self._route.take(x)
        if weights := self._weights(layer, "q", "head", "x"):
            self._route.add(routed.head_from_x(segments, weights), q)
        if weights := self._weights(layer, "q", "shared", "x"):
            self._route.add(routed.shared(segments, weights), q)

    def add_k(self, layer: int, x: Tensor, k: Tensor) -> None:
        """Add dk to the raw key projection [tokens, G*P]; call after `add_v`, which reads the base's key."""
        if weights := self._weights(layer, "k", "shared", "x"):
            self._route.add(routed.shared(self._route.take(x), weights), k)

    def add_v(self, layer: int, x: Tensor, base_key: Tensor, v: Tensor) -> None:
        """Add dv to the value projection [tokens, G*P]; `base_key` is the frozen base's raw key, before any dk."""
        if weights := self._weights(layer, "v", "head", "k"):
            self._route.add(routed.v_head_from_key(self._route.take(base_key), weights), v)
        if weights := self._weights(layer, "v", "head", "x"):
            self._route.add(routed.head_from_x(self._route.take(x), weights), v)
        if weights := self._weights(layer, "v", "shared", "x"):
            self._route.add(routed.shared(self._route.take(x), weights), v)

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """Add do to the output projection's result [tokens, D]; `attention` is [tokens, H*P]."""
        segments = self._route.take(attention)
        if weights := self._weights(layer, "o", "head", "a"):
            self._route.add(routed.o_head(segments, weights), out)
        if weights := self._weights(layer, "o", "shared", "a"):
            self._route.add(routed.shared(segments, weights), out)

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """Add to the MLP's input projection of x [tokens, D]: [tokens, 2*I], gate first, or [tokens, I] ungated."""
        if weights := self._weights(layer, "gate_up", "shared", "m"):
            self._route.add(routed.shared(self._route.take(x), weights), gate_up)

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """Add to the MLP's result [tokens, D]; `inner` is the activated product [tokens, I] that `down` reads."""
        if weights := self._weights(layer, "down", "shared", "i"):
            self._route.add(routed.shared(self._route.take(inner), weights), out)

    def _weights(self, layer: int, site: str, part: str, reads: str) -> SegmentWeights | None:
        term = self._terms.get((site, part, reads))
        return None if term is None else term.for_layer(layer)
