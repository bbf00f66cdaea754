"""The GPT-2 family: learned positions, layer norms with biases, a plain MLP, and projections stored as (in, out)."""

from dataclasses import dataclass

from headmix_server.models.config import ModelConfig
from headmix_server.models.decoder import Decoder, Layer
from headmix_server.models.formats.linear import Linear
from headmix_server.models.layers.activation import ACTIVATIONS, Activation
from headmix_server.models.layers.attention import Heads, SelfAttention
from headmix_server.models.layers.block import PreNormBlock
from headmix_server.models.layers.mlp import Mlp
from headmix_server.models.layers.norm import LayerNorm
from headmix_server.models.layers.vocabulary import HEAD, take_vocabulary
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Checkpoint, Weights

PREFIX = "transformer."


@dataclass(frozen=True, slots=True)
class _Sizes:
    config: ModelConfig
    inner: int
    norm_eps: float
    activation: Activation


def load(reader: ConfigReader, weights: Weights) -> Decoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    config = _read_dimensions(reader)
    width = config.hidden_size
    sizes = _Sizes(
        config,
        inner=reader.size("n_inner", default=4 * width),
        norm_eps=reader.number("layer_norm_epsilon", default=1e-5),
        activation=ACTIVATIONS[reader.choice("activation_function", default="gelu_new", allowed=ACTIVATIONS)],
    )
    tied = reader.flag("tie_word_embeddings", default=True)
    scales = _read_scales(reader, config)
    reader.require("add_cross_attention", False)
    reader.refuse_faults()
    checkpoint = weights(PREFIX)
    blocks = [_take_block(sizes, checkpoint, layer, scale) for layer, scale in enumerate(scales)]
    vocabulary = take_vocabulary(checkpoint, "wte.weight", (config.vocab_size, width), tied=tied)
    positions = checkpoint.take("wpe.weight", (config.max_positions, width))
    final_norm = _take_norm(sizes, checkpoint, "ln_f")
    checkpoint.refuse_rest(ignored=(".attn.bias", ".attn.masked_bias", HEAD))  # the causal mask, in old checkpoints
    return Decoder(config, vocabulary, [Layer(block, None) for block in blocks], final_norm, positions=positions)


def _read_dimensions(reader: ConfigReader) -> ModelConfig:
    width, heads = reader.size("n_embd", "hidden_size"), reader.size("n_head", "num_attention_heads")
    if width % heads:
        reader.fault(f"a hidden size of {width} is not a multiple of {heads} heads")
    return ModelConfig(
        model_type=reader.model_type,
        hidden_size=width,
        num_layers=reader.size("n_layer", "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        vocab_size=reader.size("vocab_size"),
        max_positions=reader.size("n_positions", "max_position_embeddings"),
        eos_ids=reader.eos_ids(),
    )


def _read_scales(reader: ConfigReader, config: ModelConfig) -> list[float]:
    """Return the scale of each layer's attention scores."""
    scale = config.head_dim**-0.5 if reader.flag("scale_attn_weights", default=True) else 1.0
    by_layer = reader.flag("scale_attn_by_inverse_layer_idx", default=False)
    return [scale / (layer + 1) if by_layer else scale for layer in range(config.num_layers)]


def _take_block(sizes: _Sizes, checkpoint: Checkpoint, layer: int, scale: float) -> PreNormBlock:
    config, name = sizes.config, f"h.{layer}"
    width, heads = config.hidden_size, config.num_heads
    attention = SelfAttention(
        layer=layer,
        qkv=_take_projection(checkpoint, f"{name}.attn.c_attn", 3 * width, width),
        o=_take_projection(checkpoint, f"{name}.attn.c_proj", width, width),
        heads=Heads(heads, heads, config.head_dim, scale),
    )
    mlp = Mlp(
        layer,
        _take_projection(checkpoint, f"{name}.mlp.c_fc", sizes.inner, width),
        _take_projection(checkpoint, f"{name}.mlp.c_proj", width, sizes.inner),
        sizes.activation,
    )
    return PreNormBlock(
        attention, mlp, _take_norm(sizes, checkpoint, f"{name}.ln_1"), _take_norm(sizes, checkpoint, f"{name}.ln_2")
    )


def _take_projection(checkpoint: Checkpoint, name: str, outputs: int, inputs: int) -> Linear:
    """Return a projection whose weight is stored as (in, out)."""
    return checkpoint.transposed(name, outputs, inputs)


def _take_norm(sizes: _Sizes, checkpoint: Checkpoint, name: str) -> LayerNorm:
    shape = (sizes.config.hidden_size,)
    return LayerNorm(checkpoint.take(f"{name}.weight", shape), checkpoint.take(f"{name}.bias", shape), sizes.norm_eps)
