"""The one table of shapes: for every term of the method, its input and the sizes of its tensors.

Everything that allocates, checks, trains or serves adapter tensors derives their names and shapes from here. The
table is that of DESIGN section 2; it does not know how a term is computed (`reference`) or stored on a device.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from headmix_adapters.config import AdapterConfig, BaseShape, ClassifierConfig, HeadPart, SharedPart, Sites

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One row of the table. Dimensions are symbols: D hidden size, H query heads, G kv heads, P head size, r rank,
    I the MLP's width, U the rows of its input projection (2 I, gate before up, where it is gated).

    `input` says what the term reads: x the block's input, k the base's raw key, a the heads' attention output, m the
    MLP's input (after its norm, if there is one before it), i the MLP's activated inner product.
    """

    site: str
    part: str
    input: str
    A: tuple[str, ...]
    B: tuple[str, ...]
    bias: tuple[str, ...] | None


_ROWS = (
    Term("q", "head", "x", A=("H", "r", "D"), B=("H", "P", "r"), bias=("H", "P")),
    Term("q", "shared", "x", A=("r", "D"), B=("HP", "r"), bias=None),
    Term("k", "shared", "x", A=("r", "D"), B=("GP", "r"), bias=None),
    Term("v", "head", "k", A=("G", "r", "P"), B=("G", "P", "r"), bias=("G", "P")),
    Term("v", "head", "x", A=("G", "r", "D"), B=("G", "P", "r"), bias=("G", "P")),
    Term("v", "shared", "x", A=("r", "D"), B=("GP", "r"), bias=None),
    Term("o", "head", "a", A=("H", "r", "P"), B=("H", "D", "r"), bias=("D",)),
    Term("o", "shared", "a", A=("r", "HP"), B=("D", "r"), bias=None),
    Term("gate_up", "shared", "m", A=("r", "D"), B=("U", "r"), bias=None),
    Term("down", "shared", "i", A=("r", "I"), B=("D", "r"), bias=None),
)

TERMS: Mapping[tuple[str, str, str], Term] = MappingProxyType({(row.site, row.part, row.input): row for row in _ROWS})


@dataclass(frozen=True, slots=True)
class TermConfig:
    """A term of one adapter: the table's row with the adapter's rank, scale and whether it has a bias."""

    term: Term
    rank: int
    scale: float
    has_bias: bool

    @property
    def prefix(self) -> str:
        """The part of the tensor names after the layer, for example `q.head`."""
        return f"{self.term.site}.{self.term.part}"


def iter_terms(sites: Sites) -> Iterator[TermConfig]:
    """Yield the configured terms in the fixed order of the table.

    Raises:
        KeyError: the base of a head part is not defined for its site, or the site has no such part.
    """
    for name, site in sites.present().items():
        if site.head is not None:
            yield _head_term(name, site.head)
        if site.shared is not None:
            yield _shared_term(name, site.shared)


def _head_term(site: str, part: HeadPart) -> TermConfig:
    term = TERMS[(site, "head", part.base)]
    return TermConfig(term, part.rank, part.scale, has_bias=part.bias and term.bias is not None)


_SHARED = {row.site: row for row in _ROWS if row.part == "shared"}


def _shared_term(site: str, part: SharedPart) -> TermConfig:
    term = _SHARED[site]
    return TermConfig(term, part.rank, part.scale, has_bias=False)


def symbol_sizes(base: BaseShape, rank: int) -> dict[str, int]:
    """Return the value of every dimension symbol of the table for one base and rank."""
    heads, kv_heads, head_dim = base.num_heads, base.num_kv_heads, base.head_dim
    return {
        "D": base.hidden_size,
        "H": heads,
        "G": kv_heads,
        "P": head_dim,
        "HP": heads * head_dim,
        "GP": kv_heads * head_dim,
        "I": base.intermediate_size,
        "U": base.intermediate_size * (2 if base.gated_mlp else 1),
        "r": rank,
    }


def term_shapes(config: TermConfig, base: BaseShape) -> dict[str, Shape]:
    """Return the shapes of one layer's tensors of a term, keyed `A`, `B` and, where it has one, `bias`."""
    sizes = symbol_sizes(base, config.rank)
    shapes = {"A": _resolve(config.term.A, sizes), "B": _resolve(config.term.B, sizes)}
    if config.has_bias and config.term.bias is not None:
        shapes["bias"] = _resolve(config.term.bias, sizes)
    return shapes


def _resolve(symbols: tuple[str, ...], sizes: Mapping[str, int]) -> Shape:
    return tuple(sizes[symbol] for symbol in symbols)


def layer_shapes(config: AdapterConfig) -> dict[str, Shape]:
    """Return the shapes of one adapted layer's tensors, keyed without the layer, for example `q.head.A`."""
    return {
        f"{term.prefix}.{tensor}": shape
        for term in iter_terms(config.sites)
        for tensor, shape in term_shapes(term, config.base).items()
    }


def classifier_shapes(classifier: ClassifierConfig, hidden_size: int) -> dict[str, Shape]:
    """Return the shapes of the classification head's tensors; dense-tanh comes before the output projection."""
    labels = len(classifier.labels)
    shapes: dict[str, Shape] = {}
    if classifier.kind == "mlp-tanh":
        shapes |= {"classifier.dense.weight": (hidden_size, hidden_size), "classifier.dense.bias": (hidden_size,)}
    return shapes | {"classifier.out_proj.weight": (labels, hidden_size), "classifier.out_proj.bias": (labels,)}


def tensor_shapes(config: AdapterConfig, layers: range | tuple[int, ...] | None = None) -> dict[str, Shape]:
    """Return the name and shape of every tensor of an artifact that adapts `layers` (default: all of the base's)."""
    per_layer = layer_shapes(config)
    chosen = range(config.base.num_layers) if layers is None else layers
    shapes = {f"layers.{layer}.{name}": shape for layer in chosen for name, shape in per_layer.items()}
    if config.classifier is not None:
        shapes |= classifier_shapes(config.classifier, config.base.hidden_size)
    if config.added_tokens:
        shapes["added_tokens.embedding"] = (len(config.added_tokens), config.base.hidden_size)
    return shapes


def num_parameters(config: AdapterConfig, layers: range | tuple[int, ...] | None = None) -> int:
    """Return how many numbers an artifact with this config contains."""
    return sum(prod(shape) for shape in tensor_shapes(config, layers).values())
