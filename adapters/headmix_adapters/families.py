"""Where each family of transformers models keeps its layers and projections: a new family is one more row.

Owns names only; training and conversion read them here. That a module of such a name exists and has the right size is
`inject.blocks`' to check; what an adapter adds to it is `sites`' and `reference`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headmix_adapters.config import Pooling


class UnknownFamilyError(ValueError):
    """No row of the table is of this model type; the message lists those that are."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one site's result that a module yields: `width` of them, after the first `skip`.

    All three sizes are symbols of the table of shapes (`sites`); `reads` is the width of the module's input.
    """

    site: str
    reads: str
    width: str
    skip: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """One row. `layers` is relative to the model below its head, `modules` to a layer.

    A module's parts stand side by side in its result, in their order. `generates`: the family has a vocabulary head.
    `enters_plain`: embeddings given in place of tokens reach the first layer unchanged, so that the stack can be cut.
    """

    layers: str
    modules: Mapping[str, tuple[Part, ...]]
    generates: bool = True
    enters_plain: bool = True


_Q = Part("q", "D", "HP")
_K = Part("k", "D", "GP")
_V = Part("v", "D", "GP")
_O = Part("o", "HP", "D")
# An MLP without a gate has this part alone, as the whole of its first projection.
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
    enters_plain=False,
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
    generates=False,
    enters_plain=False,
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "gemma": _LLAMA,
        "gemma2": _LLAMA,
        "gemma3_text": _LLAMA,
        "gpt2": _GPT2,
        "bert": _BERT,
        "roberta": _BERT,
    }
)


def family_of(model_type: str) -> Family:
    """Return the row of a `model_type`, as config.json spells it.

    Raises:
        UnknownFamilyError: there is none.
    """
    if model_type not in FAMILIES:
        raise UnknownFamilyError(f"adapters do not attach to model type {model_type} (known: {', '.join(FAMILIES)})")
    return FAMILIES[model_type]


def usual_pooling(generates: bool) -> Pooling:
    """Return how the states of a text become one where nobody says: decoders end with it, encoders take the mean."""
    return "last" if generates else "mean"
