"""The test matrix of families, one row each: a tiny random checkpoint with a tokenizer and its transformers model.

A new family adds its row here; every test that is parametrised by `FAMILIES` then covers it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
)

from harness.bases.base_folder import write_base_folder, write_qwen_folder
from harness.bases.encoder_folder import write_byte_level_folder, write_wordpiece_folder

VOCABULARY = 512


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """One row: the transformers classes of a family, a config of a few thousand parameters and its tokenizer."""

    model_type: str
    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    config: Mapping[str, Any]
    write_tokenizer: Callable[[Path], object]
    causal: bool = True

    def make(self, folder: Path, overrides: Mapping[str, Any] | None = None, *, seed: int = 0) -> PreTrainedModel:
        """Write a random checkpoint and its tokenizer to a folder, and return the oracle in evaluation mode."""
        self.write_tokenizer(folder)
        torch.manual_seed(seed)
        config = self.config_class.from_dict({"vocab_size": VOCABULARY} | dict(self.config) | dict(overrides or {}))
        model = self.model_class(config)
        model.train(mode=False)
        _spread(model)
        model.save_pretrained(folder)
        return model


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Make weights large enough to avoid near-ties between scores, and no norm or bias neutral."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.1)


_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [2, 0],
    "bos_token_id": 1,
    "pad_token_id": 0,
}
_ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
}
_WINDOWED = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
_ROWS = (
    TinyFamily("llama", LlamaConfig, LlamaForCausalLM, _DECODER | {"head_dim": 12}, write_base_folder),
    TinyFamily("mistral", MistralConfig, MistralForCausalLM, _DECODER | {"sliding_window": 7}, write_base_folder),
    TinyFamily(
        "qwen2", Qwen2Config, Qwen2ForCausalLM, _DECODER | _WINDOWED | {"tie_word_embeddings": True}, write_qwen_folder
    ),
    TinyFamily("qwen3", Qwen3Config, Qwen3ForCausalLM, _DECODER | {"head_dim": 12}, write_base_folder),
    TinyFamily(
        "gemma3_text",
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        _DECODER
        | {"head_dim": 12, "query_pre_attn_scalar": 24, "sliding_window": 7}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        write_base_folder,
    ),
    TinyFamily(
        "gpt2",
        GPT2Config,
        GPT2LMHeadModel,
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
        | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        write_base_folder,
    ),
    TinyFamily("bert", BertConfig, BertModel, _ENCODER | {"pad_token_id": 0}, write_wordpiece_folder, causal=False),
    TinyFamily(
        "roberta",
        RobertaConfig,
        RobertaModel,
        _ENCODER | {"pad_token_id": 1, "type_vocab_size": 1},
        write_byte_level_folder,
        causal=False,
    ),
)

FAMILIES: Mapping[str, TinyFamily] = MappingProxyType({row.model_type: row for row in _ROWS})
