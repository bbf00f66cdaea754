"""The Llama family: SmolLM2, Llama and whatever shares their checkpoint layout."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm

from headmix_server.kernels.adapters import StepAdapters
from headmix_server.kernels.attention import AttentionPlan
from headmix_server.models.block import BlockShape, BlockWeights, DecoderBlock, StepInputs
from headmix_server.models.config import ModelConfig
from headmix_server.models.rotary import RotaryTable
from headmix_server.models.weights import Checkpoint


class LlamaModel:
    """A frozen decoder: embeddings, blocks, final norm and head."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self.config = config
        width, vocab = config.hidden_size, config.vocab_size
        self._embedding = checkpoint.take("model.embed_tokens.weight", (vocab, width))
        self._norm = checkpoint.take("model.norm.weight", (width,))
        tied = config.tied_head or "lm_head.weight" not in checkpoint
        self.tied_head = tied
        self._head = self._embedding if tied else checkpoint.take("lm_head.weight", (vocab, width))
        shape = BlockShape(config.num_heads, config.num_kv_heads, config.head_dim, config.rms_norm_eps)
        self._blocks = [
            DecoderBlock(layer, _block_weights(config, checkpoint, layer), shape) for layer in range(config.num_layers)
        ]
        checkpoint.refuse_rest(ignored=("rotary_emb.inv_freq", "lm_head.weight"))
        self._rotary = RotaryTable(config.head_dim, config.max_positions, config.rope_theta, dtype)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        caches: Sequence[tuple[Tensor, Tensor]],
        attention: AttentionPlan,
        adapters: StepAdapters | None,
    ) -> Tensor:
        """Return the final normalised hidden states [tokens, D] of token ids and positions [tokens]."""
        cos, sin = self._rotary.at(positions)
        step = StepInputs(cos, sin, attention, adapters)
        hidden = embedding(tokens, self._embedding)  # [tokens, D]
        if adapters is not None:
            adapters.replace_embeddings(hidden)
        for block, cache in zip(self._blocks, caches, strict=True):
            hidden = block.forward(hidden, cache, step)
        return rms_norm(hidden, self._norm.shape, self._norm, self.config.rms_norm_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of every token of the vocabulary: [rows, D] -> [rows, vocab]."""
        return linear(hidden, self._head)


def _block_weights(config: ModelConfig, checkpoint: Checkpoint, layer: int) -> BlockWeights:
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def take(name: str, *shape: int) -> Tensor:
        return checkpoint.take(f"model.layers.{layer}.{name}.weight", shape)

    return BlockWeights(
        input_norm=take("input_layernorm", width),
        q=take("self_attn.q_proj", queries, width),
        k=take("self_attn.k_proj", keys, width),
        v=take("self_attn.v_proj", keys, width),
        o=take("self_attn.o_proj", width, queries),
        post_norm=take("post_attention_layernorm", width),
        gate=take("mlp.gate_proj", inner, width),
        up=take("mlp.up_proj", inner, width),
        down=take("mlp.down_proj", width, inner),
    )
