"""Which family serves which `model_type`. A family's module is imported when one of its bases is loaded."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch

from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.linear_format import PLAIN, LinearFormat
from headmix_server.models.loading.config_reader import ConfigReader, read_json
from headmix_server.models.loading.weights import Checkpoint, Weights
from headmix_server.models.model import Model

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "bert": "bert",
        "gemma3_text": "gemma3",
        "gpt2": "gpt2",
        "llama": "llama",
        "mistral": "mistral",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "roberta": "roberta",
    }
)
"""The module of each served `model_type`, in `models.families`."""


CPU = torch.device("cpu")


class Family(Protocol):
    """A family's module."""

    def load(self, reader: ConfigReader, weights: Weights) -> Model:
        """Read the config, refuse what is not computed, then open the weights and take all of them.

        Raises:
            UnsupportedModelError: see `load_model`.
        """
        ...


def family_of(model_type: object) -> Family:
    """Import the module that serves a `model_type`.

    Raises:
        UnsupportedModelError: none does.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        served = ", ".join(FAMILIES)
        raise UnsupportedModelError(f"model_type {model_type!r} is not served; served are: {served}")
    module: Family = import_module(f"headmix_server.models.families.{FAMILIES[model_type]}")
    return module


def load_model(folder: Path, dtype: torch.dtype, form: LinearFormat = PLAIN, device: torch.device = CPU) -> Model:
    """Load the base in a checkpoint folder to a device, its matrices in the given format.

    Raises:
        UnsupportedModelError: its family or an option of its config is not served, or its weights are not what the
            config says; the message says which.
    """
    raw = read_json(folder / "config.json")
    generation = folder / "generation_config.json"
    family = family_of(raw.get("model_type"))
    reader = ConfigReader(raw, read_json(generation) if generation.is_file() else None)
    with device:  # for what a family computes itself, as rotary frequencies
        return family.load(reader, lambda prefix: Checkpoint(folder, dtype, form, prefix, device))
