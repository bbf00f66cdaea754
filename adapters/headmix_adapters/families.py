"""The facts about each family of transformers models, by `model_type`: a new family is one more row.

The only table of such facts, read by serving, training and conversion; it imports neither torch nor transformers.
`inject.blocks` checks that the named modules exist and have the right size; `sites` and `reference` define what an
adapter adds to them; the server's module of the same name computes the base.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from headmix_adapters.config import Pooling


class UnknownFamilyError(ValueError):
    """The table has no row for this model type; the message lists those it has."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one site's result that a module computes: `width` of them, after the first `skip`.

    All three sizes are symbols of the table of shapes (`sites`); `reads` is the width of the module's input.
    """

    site: str
    reads: str
    width: str
    skip: str | None = None


ClassifierLayout = Literal["score", "pooler", "dense"]
"""The tensors of transformers' classification head: a matrix `score` on the last token's state; or, on the first
token's state, BERT's `pooler` (part of the base) and `classifier`, or RoBERTa's `classifier.dense` and
`classifier.out_proj`."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table.

    Names: `prefix` is what a model with a head puts before its backbone; `layers` is relative to the backbone,
    `modules` to a layer; a module's parts lie side by side in its result, in this order.

    Properties: `generates`, it has a vocabulary head and reads from left to right; `rotary`, positions rotate queries
    and keys; `enters_plain`, embeddings given in place of tokens reach the first layer unchanged, so that the stack can
    be split; `positions_after_padding`, the first position is the row after the padding token's id; `mlp_ratio`, the
    MLP's width as a multiple of the hidden size if a config does not say.

    Files: `transposed`, matrices are stored as (in, out); `gguf`, the architecture of GGUF files that are converted to
    this family without loss. `served`: the server has a module named after the model type in `models/families`.
    """

    layers: str
    modules: Mapping[str, tuple[Part, ...]]
    prefix: str = "model."
    classifier: ClassifierLayout = "score"
    generates: bool = True
    rotary: bool = True
    enters_plain: bool = True
    positions_after_padding: bool = False
    mlp_ratio: int | None = None
    transposed: bool = False
    gguf: str | None = None
    served: bool = True

    @property
    def gated_mlp(self) -> bool:
        """Whether the MLP multiplies two projections of its input."""
        return any(
            part.site == "gate_up" and part.skip is not None for parts in self.modules.values() for part in parts
        )


_Q = Part("q", "D", "HP")
_K = Part("k", "D", "GP")
_V = Part("v", "D", "GP")
_O = Part("o", "HP", "D")
# An MLP without a gate has only this part, as its whole first projection.
_GATE = Part("gate_up", "D", "I")
_UP = Part("gate_up", "D", "I", skip="I")
_DOWN = Part("down", "I", "D")

_LLAMA = Family(
    layers="layers",
    modules=MappingProxyType(
        {
            "self_attn.q_proj": (_Q,),
            "self_attn.k_proj": (_K,),
            "self_attn.v_proj": (_V,),
            "self_attn.o_proj": (_O,),
            "mlp.gate_proj": (_GATE,),
            "mlp.up_proj": (_UP,),
            "mlp.down_proj": (_DOWN,),
        }
    ),
)
_GPT2 = Family(
    layers="h",
    modules=MappingProxyType(
        {"attn.c_attn": (_Q, _K, _V), "attn.c_proj": (_O,), "mlp.c_fc": (_GATE,), "mlp.c_proj": (_DOWN,)}
    ),
    prefix="transformer.",
    rotary=False,
    enters_plain=False,
    mlp_ratio=4,
    transposed=True,
)
_BERT = Family(
    layers="encoder.layer",
    modules=MappingProxyType(
        {
            "attention.self.query": (_Q,),
            "attention.self.key": (_K,),
            "attention.self.value": (_V,),
            "attention.output.dense": (_O,),
            "intermediate.dense": (_GATE,),
            "output.dense": (_DOWN,),
        }
    ),
    prefix="bert.",
    classifier="pooler",
    generates=False,
    rotary=False,
    enters_plain=False,
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": replace(_LLAMA, gguf="llama"),
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "gemma": replace(_LLAMA, served=False),
        "gemma2": replace(_LLAMA, served=False),
        "gemma3_text": replace(_LLAMA, gguf="gemma3"),
        "gpt2": _GPT2,
        "bert": _BERT,
        "roberta": replace(_BERT, prefix="roberta.", classifier="dense", positions_after_padding=True),
    }
)

BACKBONES = tuple(sorted({family.prefix.removesuffix(".") for family in FAMILIES.values()}))
"""The names that models with a head give their backbone."""


def family_of(model_type: str) -> Family:
    """Return the row of a `model_type`, spelled as in config.json.

    Raises:
        UnknownFamilyError: there is none.
    """
    if model_type not in FAMILIES:
        raise UnknownFamilyError(f"adapters do not attach to model type {model_type} (known: {', '.join(FAMILIES)})")
    return FAMILIES[model_type]


def can_generate(model_type: str) -> bool:
    """Return whether a base generates text; assumed for a base whose family is not in the table."""
    family = FAMILIES.get(model_type)
    return family is None or family.generates


def usual_pooling(generates: bool) -> Pooling:
    """Return the default pooling of a text's states: the last state for decoders, the mean for encoders."""
    return "last" if generates else "mean"
