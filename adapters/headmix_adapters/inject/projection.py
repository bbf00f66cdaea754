"""One projection of self-attention with an adapter's terms beside it.

The frozen projection stays the base's own module; the terms hold the trainable tensors and compute with
`reference.term_delta`, the same function every fast path is tested against. Nothing here knows of models or files.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from headmix_adapters import reference
from headmix_adapters.sites import TermConfig


class TermModule(nn.Module):
    """The trainable tensors A, B and, where the term has one, bias of one term in one layer."""

    def __init__(self, config: TermConfig, tensors: Mapping[str, Tensor], dropout: float) -> None:
        super().__init__()
        self.config = config
        self.A = nn.Parameter(tensors["A"])
        self.B = nn.Parameter(tensors["B"])
        self.bias = nn.Parameter(tensors["bias"]) if config.has_bias else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the term's addition in the tensors' own precision: [..., in] -> [..., out]."""
        dropped = self.dropout(inputs.to(self.A.dtype))
        return reference.term_delta(self.config, dropped, self.A, self.B, self.bias)


class AdaptedProjection(nn.Module):
    """`projection(x)` plus its terms' additions.

    `raw_key` is the frozen key projection, read by the value's terms on base k; it belongs to its own place in the
    model, so it is kept out of this module's children.
    """

    def __init__(self, projection: nn.Module, terms: Sequence[TermModule], raw_key: nn.Module | None = None) -> None:
        super().__init__()
        self.projection = projection
        self.terms = nn.ModuleList(terms)
        self._raw_key = (raw_key,)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted projection of x, in the base's precision."""
        result: Tensor = self.projection(x)
        for term in self.terms:
            result = result + term(self._term_input(term, x)).to(result.dtype)
        return result

    def _term_input(self, term: nn.Module, x: Tensor) -> Tensor:
        raw_key = self._raw_key[0]
        if isinstance(term, TermModule) and term.config.term.input == "k" and raw_key is not None:
            key: Tensor = raw_key(x)
            return key
        return x
