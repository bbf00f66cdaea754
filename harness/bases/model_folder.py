"""A model folder with the files a base must have, but no model that could run."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


def write_model_folder(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Write config.json (`config` changes it; None removes a field), tokenizer.json and a few random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {key: value for key, value in (CONFIG | config).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "tokenizer.json").write_text("{}")
    save_file(random_weights(seed), folder / "model.safetensors")
    return folder


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return tensors of a few shapes; the same seed gives the same values."""
    generator = torch.Generator().manual_seed(seed)
    # The first is larger than all sampled blocks together.
    return {
        "model.embed_tokens.weight": torch.randn(64, 512, generator=generator),
        "model.layers.0.self_attn.q_proj.weight": torch.randn(32, 32, generator=generator),
        "model.norm.weight": torch.randn(32, generator=generator).to(torch.bfloat16),
    }
