"""A tiny random Llama checkpoint on disk, for everything that needs a real forward pass in milliseconds."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.bases.base_folder import write_base_folder
from headmix_adapters.config import BaseShape

TINY = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [2, 0],
    "bos_token_id": 1,
    "pad_token_id": 0,
}


def make_tiny_llama(folder: Path, overrides: Mapping[str, object] | None = None, *, seed: int = 0) -> LlamaForCausalLM:
    """Write a random checkpoint (grouped-query attention, head_dim other than hidden / heads) and return its oracle."""
    write_base_folder(folder)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig.from_dict(TINY | {"tie_word_embeddings": True} | dict(overrides or {})))
    model.train(mode=False)
    with torch.no_grad():  # transformers' small initial weights cause near-ties, so spread the scores
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return model


def tiny_shape(name: str = "tiny", fingerprint: str = "sha256:" + "0" * 64) -> BaseShape:
    """Return the shape of `make_tiny_llama`'s default checkpoint."""
    return BaseShape(
        name=name,
        model_type="llama",
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=12,
        vocab_size=512,
        fingerprint=fingerprint,
    )
