"""What families with Llama's checkpoint layout share: tensor names, sizes, gated MLP and RMS norms."""

from collections.abc import Sequence
from dataclasses import dataclass

from headmix_server.models.config import ModelConfig
from headmix_server.models.decoder import Decoder, Layer
from headmix_server.models.layers.activation import ACTIVATIONS, gated
from headmix_server.models.layers.attention import Heads, SelfAttention
from headmix_server.models.layers.block import PreNormBlock
from headmix_server.models.layers.mlp import Mlp
from headmix_server.models.layers.norm import RMSNorm
from headmix_server.models.layers.rotary import Rotary
from headmix_server.models.layers.vocabulary import HEAD, take_vocabulary
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Checkpoint

PREFIX = "model."


@dataclass(frozen=True, slots=True)
class Layout:
    """What one family reads from its config. `head_norms`: queries and keys are normalised per head."""

    config: ModelConfig
    inner: int
    norm_eps: float
    activation: str
    tied: bool
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False
    norm_offset: float = 0.0  # added to the norms' stored weights: 1 for Gemma
    scale: float | None = None  # of the attention scores; None: 1 / sqrt(head size)


def read_dimensions(reader: ConfigReader) -> ModelConfig:
    """Read the sizes; by default every query head has its own key head, and the heads share the hidden size."""
    heads, hidden = reader.size("num_attention_heads"), reader.size("hidden_size")
    groups = reader.size("num_key_value_heads", default=heads)
    if heads % groups:
        reader.fault(f"{heads} attention heads cannot share {groups} key/value heads")
    return ModelConfig(
        model_type=reader.model_type,
        hidden_size=hidden,
        num_layers=reader.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=groups,
        head_dim=reader.size("head_dim", default=hidden // heads),
        vocab_size=reader.size("vocab_size"),
        max_positions=reader.size("max_position_embeddings"),
        eos_ids=reader.eos_ids(),
    )


def read_activation(reader: ConfigReader) -> str:
    """Read the MLP's activation."""
    return reader.choice("hidden_act", default="silu", allowed=ACTIVATIONS)


def take_block(layout: Layout, checkpoint: Checkpoint, layer: int, window: int | None) -> PreNormBlock:
    """Read one layer; `window` is how far back it attends, in tokens."""
    name = f"layers.{layer}"
    return PreNormBlock(
        attention=take_attention(layout, checkpoint, layer, window),
        mlp=take_mlp(layout, checkpoint, layer),
        attention_norm=take_norm(layout, checkpoint, f"{name}.input_layernorm"),
        mlp_norm=take_norm(layout, checkpoint, f"{name}.post_attention_layernorm"),
    )


def take_attention(layout: Layout, checkpoint: Checkpoint, layer: int, window: int | None) -> SelfAttention:
    """Read one layer's attention."""
    config, name = layout.config, f"layers.{layer}.self_attn"
    width, size = config.hidden_size, config.head_dim
    queries, keys = config.num_heads * size, config.num_kv_heads * size

    def head_norm(which: str) -> RMSNorm | None:
        return take_norm(layout, checkpoint, f"{name}.{which}", size) if layout.head_norms else None

    parts = [(f"{name}.q_proj", queries), (f"{name}.k_proj", keys), (f"{name}.v_proj", keys)]
    return SelfAttention(
        layer=layer,
        qkv=checkpoint.stacked(parts, width, bias=layout.qkv_bias),
        o=checkpoint.linear(f"{name}.o_proj", width, queries, bias=layout.o_bias),
        heads=Heads(config.num_heads, config.num_kv_heads, size, layout.scale or size**-0.5),
        q_norm=head_norm("q_norm"),
        k_norm=head_norm("k_norm"),
        window=window,
        ops=checkpoint.row_ops,
    )


def take_mlp(layout: Layout, checkpoint: Checkpoint, layer: int) -> Mlp:
    """Read one layer's MLP, gate and up projection stacked."""
    width, inner, bias = layout.config.hidden_size, layout.inner, layout.mlp_bias
    name = f"layers.{layer}.mlp"
    gate_up = checkpoint.stacked([(f"{name}.gate_proj", inner), (f"{name}.up_proj", inner)], width, bias=bias)
    down = checkpoint.linear(f"{name}.down_proj", width, inner, bias=bias)
    return Mlp(layer, gate_up, down, gated(layout.activation, checkpoint.row_ops))


def take_norm(layout: Layout, checkpoint: Checkpoint, name: str, width: int | None = None) -> RMSNorm:
    """Read a norm of the hidden size, or of another width."""
    weight = checkpoint.take(f"{name}.weight", (width or layout.config.hidden_size,))
    scale = weight + layout.norm_offset if layout.norm_offset else weight
    return RMSNorm(scale, layout.norm_eps, checkpoint.row_ops)


def take_decoder(
    layout: Layout,
    checkpoint: Checkpoint,
    blocks: Sequence[tuple[PreNormBlock, Rotary]],
    *,
    embedding_scale: float | None = None,
) -> Decoder:
    """Combine the layers with embeddings, final norm and head; any other tensor in the checkpoint is refused."""
    config = layout.config
    shape = (config.vocab_size, config.hidden_size)
    vocabulary = take_vocabulary(checkpoint, "embed_tokens.weight", shape, tied=layout.tied)
    final_norm = take_norm(layout, checkpoint, "norm")
    checkpoint.refuse_rest(ignored=("rotary_emb.inv_freq", HEAD))
    layers = [Layer(block, rotary) for block, rotary in blocks]
    return Decoder(config, vocabulary, layers, final_norm, embedding_scale=embedding_scale)
