"""A bidirectional base: summed and normalised embeddings, then post-norm layers. Used by BERT and RoBERTa.

It reads whole texts and generates nothing. Token types mark the second text of a pair; all others are of type 0, as is
everything on a base with a single type (RoBERTa).
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.models.config import ModelConfig
from headmix_server.models.layers.activation import ACTIVATIONS, Activation
from headmix_server.models.layers.attention import Heads, SelfAttention
from headmix_server.models.layers.block import PostNormBlock
from headmix_server.models.layers.mlp import Mlp
from headmix_server.models.layers.norm import LayerNorm
from headmix_server.models.layers.positions import Positions
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Checkpoint

HEADS = ("pooler.", "cls.", "lm_head.", "classifier.", "qa_outputs.")
"""Parts that a checkpoint may have above the encoder; adapters bring their own."""


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """What a family reads from its config beyond the common dimensions."""

    config: ModelConfig
    inner: int
    token_types: int
    table_positions: int  # rows of the position table; RoBERTa leaves some unused
    norm_eps: float
    activation: Activation


class Encoder:
    """See `models.model.Model`."""

    generates = False
    tied_head = False

    def __init__(self, sizes: EncoderSizes, checkpoint: Checkpoint, positions: Positions) -> None:
        width, config = sizes.config.hidden_size, sizes.config
        self.config = config
        self._words = checkpoint.table("embeddings.word_embeddings.weight", (config.vocab_size, width))
        self._places = checkpoint.take("embeddings.position_embeddings.weight", (sizes.table_positions, width))
        types = checkpoint.take("embeddings.token_type_embeddings.weight", (sizes.token_types, width))
        self._types = types[:2].clone()
        self._norm = _take_norm(sizes, checkpoint, "embeddings.LayerNorm")
        self._blocks = [_take_block(sizes, checkpoint, layer) for layer in range(config.num_layers)]
        self._positions = positions
        checkpoint.refuse_rest(ignored=("embeddings.position_ids", "embeddings.token_type_ids", *HEADS))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: StepAttention,
        adapters: StepAdapters | None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Return the last layer's states [tokens, D]."""
        words = self._words(tokens)
        if adapters is not None:
            adapters.replace_embeddings(words)
        places = functional.embedding(self._positions(tokens, positions), self._places)
        hidden = self._norm(words + self._type_of(types) + places)
        for block in self._blocks:
            hidden = block(hidden, attention, adapters)
        return hidden

    def _type_of(self, types: Tensor | None) -> Tensor:
        """Return the embeddings of tokens' types: [D] for all of them, or [tokens, D]."""
        return self._types[0] if types is None or len(self._types) == 1 else functional.embedding(types, self._types)

    def logits(self, hidden: Tensor) -> Tensor:
        """Raise: there is no vocabulary head."""
        raise RuntimeError(f"a {self.config.model_type} base does not generate")


def read_sizes(reader: ConfigReader, *, reserved_positions: int = 0) -> EncoderSizes:
    """Read a config of BERT's kind; `reserved_positions` are the rows of the position table that no token uses."""
    heads, width = reader.size("num_attention_heads"), reader.size("hidden_size")
    if width % heads:
        reader.fault(f"a hidden size of {width} is not a multiple of {heads} heads")
    rows = reader.size("max_position_embeddings")
    if rows <= reserved_positions:
        reader.fault(f"max_position_embeddings={rows} leaves no position for a token")
    reader.require("position_embedding_type", "absolute")
    reader.require("is_decoder", False)
    reader.require("add_cross_attention", False)
    reader.get("tie_word_embeddings")  # applies to a head that is not computed
    config = ModelConfig(
        model_type=reader.model_type,
        hidden_size=width,
        num_layers=reader.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        vocab_size=reader.size("vocab_size"),
        max_positions=rows - reserved_positions,
        eos_ids=reader.eos_ids(),
    )
    return EncoderSizes(
        config,
        inner=reader.size("intermediate_size"),
        token_types=reader.size("type_vocab_size", default=2),
        table_positions=rows,
        norm_eps=reader.number("layer_norm_eps", default=1e-12),
        activation=ACTIVATIONS[reader.choice("hidden_act", default="gelu", allowed=ACTIVATIONS)],
    )


def _take_block(sizes: EncoderSizes, checkpoint: Checkpoint, layer: int) -> PostNormBlock:
    config, inner, name = sizes.config, sizes.inner, f"encoder.layer.{layer}"
    width, heads = config.hidden_size, config.num_heads
    attention = SelfAttention(
        layer=layer,
        qkv=checkpoint.stacked(
            [(f"{name}.attention.self.{which}", width) for which in ("query", "key", "value")], width, bias=True
        ),
        o=checkpoint.linear(f"{name}.attention.output.dense", width, width, bias=True),
        heads=Heads(heads, heads, config.head_dim, config.head_dim**-0.5),
    )
    mlp = Mlp(
        layer,
        checkpoint.linear(f"{name}.intermediate.dense", inner, width, bias=True),
        checkpoint.linear(f"{name}.output.dense", width, inner, bias=True),
        sizes.activation,
    )
    return PostNormBlock(
        attention,
        mlp,
        _take_norm(sizes, checkpoint, f"{name}.attention.output.LayerNorm"),
        _take_norm(sizes, checkpoint, f"{name}.output.LayerNorm"),
    )


def _take_norm(sizes: EncoderSizes, checkpoint: Checkpoint, name: str) -> LayerNorm:
    shape = (sizes.config.hidden_size,)
    return LayerNorm(checkpoint.take(f"{name}.weight", shape), checkpoint.take(f"{name}.bias", shape), sizes.norm_eps)
