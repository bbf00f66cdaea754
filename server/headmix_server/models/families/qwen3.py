"""The Qwen3 family: Llama's block with queries and keys normalised per head before rotation."""

from headmix_server.models.decoder import Decoder
from headmix_server.models.families.llama_layout import (
    PREFIX,
    Layout,
    read_activation,
    read_dimensions,
    take_block,
    take_decoder,
)
from headmix_server.models.layers.layer_windows import read_windows
from headmix_server.models.layers.rope_scaling import read_rotary
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Weights


def load(reader: ConfigReader, weights: Weights) -> Decoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    config = read_dimensions(reader)
    bias = reader.flag("attention_bias", default=False)
    layout = Layout(
        config,
        inner=reader.size("intermediate_size"),
        norm_eps=reader.number("rms_norm_eps", default=1e-6),
        activation=read_activation(reader),
        tied=reader.flag("tie_word_embeddings", default=False),
        qkv_bias=bias,
        o_bias=bias,
        head_norms=True,
    )
    reader.demand("num_key_value_heads", "head_dim")
    rotary = read_rotary(reader, config.head_dim, config.max_positions)
    windows = read_windows(reader, config.num_layers)
    reader.refuse_faults()
    checkpoint = weights(PREFIX)
    blocks = [(take_block(layout, checkpoint, layer, window), rotary) for layer, window in enumerate(windows)]
    return take_decoder(layout, checkpoint, blocks)
