"""The Mistral family: Llama's block; every layer attends through a sliding window if the config sets one."""

from headmix_server.models.decoder import Decoder
from headmix_server.models.families.llama_layout import (
    PREFIX,
    Layout,
    read_activation,
    read_dimensions,
    take_block,
    take_decoder,
)
from headmix_server.models.layers.rope_scaling import read_rotary
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Weights


def load(reader: ConfigReader, weights: Weights) -> Decoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    config = read_dimensions(reader)
    layout = Layout(
        config,
        inner=reader.size("intermediate_size"),
        norm_eps=reader.number("rms_norm_eps", default=1e-6),
        activation=read_activation(reader),
        tied=reader.flag("tie_word_embeddings", default=False),
    )
    reader.demand("num_key_value_heads", "sliding_window")
    window = None if reader.get("sliding_window") is None else reader.size("sliding_window")
    reader.require("layer_types")
    rotary = read_rotary(reader, config.head_dim, config.max_positions)
    reader.refuse_faults()
    checkpoint = weights(PREFIX)
    blocks = [(take_block(layout, checkpoint, layer, window), rotary) for layer in range(config.num_layers)]
    return take_decoder(layout, checkpoint, blocks)
