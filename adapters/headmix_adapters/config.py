"""The frozen description of an adapter: everything in an artifact's header, none of its tensors.

Owns the header's fields (base, sites, classifier) and their JSON form. Shapes are in `sites`, the file in `artifact`.
Structs are immutable and refuse unknown fields, so a header is either understood in full or refused.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

FORMAT = 1
METADATA_KEY = "headmix"

Method = Literal["kernel-mix", "lora"]
Task = Literal["generation", "classification"]
HeadBase = Literal["x", "k", "a"]
Pooling = Literal["last", "cls", "mean"]
ClassifierKind = Literal["linear", "mlp-tanh"]
Problem = Literal["single_label", "multi_label", "regression"]


METADATA_FIELDS = ("examples", "training", "created_by")
"""The fields of a description that are only for people: nothing is computed from them."""

_NOT_TENSORS = (*METADATA_FIELDS, "chat_template")
"""The fields that say nothing about tensors: what computes skips them."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Immutable; refuses unknown fields."""


class HeadPart(_Frozen, frozen=True):
    """The per-head low-rank term of a site; `base` names what the down projection reads (DESIGN section 2)."""

    rank: int
    base: HeadBase
    scale: float = 1.0
    bias: bool = True


class SharedPart(_Frozen, frozen=True):
    """The low-rank term that all heads of a site share; LoRA's own form."""

    rank: int
    scale: float = 1.0


class SiteConfig(_Frozen, frozen=True, omit_defaults=True):
    """The terms of one site; a site with neither part is omitted from `Sites`."""

    head: HeadPart | None = None
    shared: SharedPart | None = None


class Sites(_Frozen, frozen=True, omit_defaults=True):
    """Which projections the adapter acts on: self-attention's, and the MLP's two where LoRA reaches them."""

    q: SiteConfig | None = None
    k: SiteConfig | None = None
    v: SiteConfig | None = None
    o: SiteConfig | None = None
    gate_up: SiteConfig | None = None
    down: SiteConfig | None = None

    def adapts_mlp(self) -> bool:
        """Whether the dimensions of the base's MLP matter to this adapter."""
        return self.gate_up is not None or self.down is not None

    def present(self) -> dict[str, SiteConfig]:
        """Return the configured sites by name, in the fixed order q, k, v, o, gate_up, down."""
        sites = {"q": self.q, "k": self.k, "v": self.v, "o": self.o, "gate_up": self.gate_up, "down": self.down}
        return {name: site for name, site in sites.items() if site is not None}

    def scales(self) -> dict[str, float]:
        """Return the scale of each configured term by its name, for example `q.head`."""
        return {
            f"{name}.{part}": term.scale
            for name, site in self.present().items()
            for part, term in (("head", site.head), ("shared", site.shared))
            if term is not None
        }


class BaseShape(_Frozen, frozen=True, omit_defaults=True):
    """The dimensions and identity of the base an adapter belongs to.

    Only adapters with MLP sites need the last two: the width of the MLP, 0 if not given, and whether its input
    projection is a stacked gate and up projection (gate first) or a single projection.
    """

    name: str
    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    fingerprint: str
    intermediate_size: int = 0
    gated_mlp: bool = True


class ClassifierConfig(_Frozen, frozen=True):
    """The classification head: how token states become one vector, and that vector one score per label.

    With `pad_token`, pooling `last` reads the last token that is not `pad_token`, or the first token if all are, as
    transformers' decoders do. If unset, it is absent from the JSON.
    """

    pooling: Pooling
    kind: ClassifierKind
    labels: tuple[str, ...]
    problem: Problem = "single_label"
    pad_token: int | UnsetType = UNSET


class ExamplePrompt(_Frozen, frozen=True, omit_defaults=True):
    """A prompt the adapter was trained for, and the answer or label to expect; shown to users, otherwise unused.

    A `chat` prompt is a user's message in a chat, in which `tools` may be called, in OpenAI's form; any other is a text
    to complete or classify.
    """

    prompt: str
    expect: str = ""
    chat: bool = False
    tools: tuple[dict[str, Any], ...] = ()


class AdapterConfig(_Frozen, frozen=True):
    """An artifact's header. `artifact.verify` checks validity beyond types (ranks, dimensions).

    `chat_template` is the jinja template of the adapter's own chats; empty: the base's.
    """

    method: Method
    task: Task
    base: BaseShape
    sites: Sites
    format: int = FORMAT
    classifier: ClassifierConfig | None = None
    added_tokens: tuple[str, ...] = ()
    chat_template: str = ""
    examples: tuple[ExamplePrompt, ...] = ()
    training: dict[str, Any] = msgspec.field(default_factory=dict)
    created_by: str = ""


def encode_config(config: AdapterConfig) -> str:
    """Return the header's JSON text; the same config always gives the same text.

    Examples and a chat template are omitted where there are none, so that files made before these fields existed keep
    their bytes and digest.
    """
    fields = msgspec.to_builtins(config)
    for name in ("examples", "chat_template"):
        if not fields[name]:
            del fields[name]
    return msgspec.json.encode(fields, order="sorted").decode()


def without_metadata(config: AdapterConfig) -> AdapterConfig:
    """Return what determines how the adapter computes and answers: the description without its metadata."""
    return msgspec.structs.replace(config, examples=(), training={}, created_by="")


def decode_for_tensors(text: str | bytes) -> AdapterConfig:
    """Parse a header's JSON text like `decode_config`, but leave empty, however large, what says nothing of tensors."""
    fields = _FIELDS.decode(text)
    for name in _NOT_TENSORS:
        fields.pop(name, None)
    return decode_config(msgspec.json.encode(fields))


def decode_config(text: str | bytes) -> AdapterConfig:
    """Parse a header's JSON text.

    Raises:
        msgspec.ValidationError: a field is missing, unknown or of the wrong type; the message names its path.
        msgspec.DecodeError: the text is not JSON.
    """
    return _CONFIG.decode(text)


_CONFIG = msgspec.json.Decoder(AdapterConfig)
"""Created at import: msgspec crashes if one thread decodes a type while another is the first to do so."""
