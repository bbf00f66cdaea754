"""The family that serves each `model_type`. A family's module is imported when one of its bases is loaded."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch

from headmix_adapters.base.gguf.stored_tensors import StoredTensor
from headmix_adapters.families import FAMILIES
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.linear_format import PLAIN, LinearFormat
from headmix_server.models.loading.config_reader import ConfigReader, read_json
from headmix_server.models.loading.weights import Checkpoint, Weights
from headmix_server.models.model import Model

SERVED = tuple(sorted(model_type for model_type, family in FAMILIES.items() if family.served))
"""The supported model types; each has a module of the same name in `models.families`."""

CPU = torch.device("cpu")


class FamilyModule(Protocol):
    """A family's module."""

    def load(self, reader: ConfigReader, weights: Weights) -> Model:
        """Read the config, refuse what is unsupported, then open the weights and take all of them.

        Raises:
            UnsupportedModelError: see `load_model`.
        """
        ...


def family_module(model_type: object) -> FamilyModule:
    """Import the module that serves a `model_type`.

    Raises:
        UnsupportedModelError: there is none.
    """
    if not isinstance(model_type, str) or model_type not in SERVED:
        raise UnsupportedModelError(f"model_type {model_type!r} is not served; served are: {', '.join(SERVED)}")
    module: FamilyModule = import_module(f"headmix_server.models.families.{model_type}")
    return module


def load_model(
    folder: Path,
    dtype: torch.dtype,
    form: LinearFormat = PLAIN,
    device: torch.device = CPU,
    stored: Mapping[str, StoredTensor] = MappingProxyType({}),
) -> Model:
    """Load the base in a checkpoint folder to a device, with its matrices in the given format.

    `stored` has the matrices that are stored in the GGUF file from which the folder was converted.

    Raises:
        UnsupportedModelError: its family or an option of its config is not supported, or its weights do not match the
            config; the message gives the reason.
    """
    raw = read_json(folder / "config.json")
    generation = folder / "generation_config.json"
    family = family_module(raw.get("model_type"))
    reader = ConfigReader(raw, read_json(generation) if generation.is_file() else None)
    with device:  # for tensors that a family computes itself, such as rotary frequencies
        return family.load(reader, lambda prefix: Checkpoint(folder, dtype, form, prefix, device, stored))
