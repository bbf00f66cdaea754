"""Which family serves which `model_type`."""

from pathlib import Path

import torch

from headmix_server.models.config import UnsupportedModelError, load_raw_config, parse_llama_config
from headmix_server.models.llama import LlamaModel
from headmix_server.models.weights import Checkpoint

SERVED = ("llama",)


def load_model(folder: Path, dtype: torch.dtype) -> LlamaModel:
    """Load the base in a checkpoint folder.

    Raises:
        UnsupportedModelError: its family or an option of its config is not served; the message says which.
    """
    raw = load_raw_config(folder)
    model_type = raw.get("model_type")
    if model_type not in SERVED:
        raise UnsupportedModelError(f"model_type {model_type!r} is not served; served are: {', '.join(SERVED)}")
    return LlamaModel(parse_llama_config(raw, folder), Checkpoint(folder, dtype), dtype)
