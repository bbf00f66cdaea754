"""The Gemma 3 text family: norms before and after each half, normalised heads, and sliding and full layers.

Sliding layers have their own rotary frequency. Norm weights are stored minus 1, and embeddings are scaled by the root
of the hidden size.
"""

from collections.abc import Mapping
from typing import Any

from headmix_server.models.decoder import Decoder
from headmix_server.models.families.llama_layout import (
    PREFIX,
    Layout,
    read_dimensions,
    take_attention,
    take_decoder,
    take_mlp,
    take_norm,
)
from headmix_server.models.layers.activation import ACTIVATIONS
from headmix_server.models.layers.block import PreNormBlock
from headmix_server.models.layers.layer_windows import FULL, SLIDING, windows_of
from headmix_server.models.layers.rope_scaling import make_rotary
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Checkpoint, Weights

PATTERN = 6
THETAS: Mapping[str, float] = {FULL: 1e6, SLIDING: 1e4}
OLD_THETAS: Mapping[str, str] = {FULL: "rope_theta", SLIDING: "rope_local_base_freq"}


def load(reader: ConfigReader, weights: Weights) -> Decoder:
    """Read config and weights; see `models.loading.registry.load_model`."""
    config = read_dimensions(reader)
    bias = reader.flag("attention_bias", default=False)
    layout = Layout(
        config,
        inner=reader.size("intermediate_size"),
        norm_eps=reader.number("rms_norm_eps", default=1e-6),
        activation=reader.choice("hidden_activation", default="gelu_pytorch_tanh", allowed=ACTIVATIONS),
        tied=reader.flag("tie_word_embeddings", default=True),
        qkv_bias=bias,
        o_bias=bias,
        head_norms=True,
        norm_offset=1.0,
        scale=reader.number("query_pre_attn_scalar", default=256) ** -0.5,
    )
    reader.demand("num_key_value_heads", "head_dim", "sliding_window")
    for unserved in ("attn_logit_softcapping", "final_logit_softcapping"):
        reader.require(unserved)
    reader.require("use_bidirectional_attention", False)
    kinds = _layer_kinds(reader, config.num_layers)
    windows = windows_of(reader, kinds, reader.get("sliding_window"), config.num_layers)
    rotaries = {
        kind: make_rotary(reader, _rope_parameters(reader, kind), config.head_dim, config.max_positions)
        for kind in (FULL, SLIDING)
    }
    reader.refuse_faults()
    checkpoint = weights(PREFIX)
    blocks = [
        (_take_block(layout, checkpoint, layer, window), rotaries[kind])
        for layer, (kind, window) in enumerate(zip(kinds, windows, strict=True))
    ]
    return take_decoder(layout, checkpoint, blocks, embedding_scale=config.hidden_size**0.5)


def _layer_kinds(reader: ConfigReader, num_layers: int) -> list[str]:
    """Return each layer's kind: every sixth layer is full unless the config says otherwise, in either of its fields."""
    kinds = reader.get("layer_types")
    pattern = reader.size("sliding_window_pattern", "_sliding_window_pattern", default=PATTERN)
    if isinstance(kinds, list):
        return [str(kind) for kind in kinds]
    return [SLIDING if (layer + 1) % pattern else FULL for layer in range(num_layers)]


def _rope_parameters(reader: ConfigReader, kind: str) -> dict[str, Any]:
    parameters = dict(reader.mapping("rope_parameters").get(kind) or {})
    if kind == FULL:
        parameters |= reader.mapping("rope_scaling")
    parameters.setdefault("rope_theta", reader.number(OLD_THETAS[kind], default=THETAS[kind]))
    return parameters


def _take_block(layout: Layout, checkpoint: Checkpoint, layer: int, window: int | None) -> PreNormBlock:
    name = f"layers.{layer}"
    return PreNormBlock(
        attention=take_attention(layout, checkpoint, layer, window),
        mlp=take_mlp(layout, checkpoint, layer),
        attention_norm=take_norm(layout, checkpoint, f"{name}.input_layernorm"),
        mlp_norm=take_norm(layout, checkpoint, f"{name}.pre_feedforward_layernorm"),
        attention_out=take_norm(layout, checkpoint, f"{name}.post_attention_layernorm"),
        mlp_out=take_norm(layout, checkpoint, f"{name}.post_feedforward_layernorm"),
    )
