"""Writes artifacts; nothing else in this project does. Loads torch; knows nothing about how tensors were trained."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from headmix_adapters.artifact.digest import digest_bytes
from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.artifact.metadata import check_metadata
from headmix_adapters.artifact.open import adapted_layers
from headmix_adapters.config import METADATA_KEY, AdapterConfig, encode_config
from headmix_adapters.sites import tensor_shapes


def write_artifact(
    path: Path, config: AdapterConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.bfloat16
) -> str:
    """Write an artifact, all or nothing, with its tensors converted to `dtype`, and return its digest.

    The same config and tensors always give the same bytes. Names and shapes must match the config; `verify_artifact`
    checks whether the values make sense.

    Raises:
        ArtifactError: tensors are missing, extra or of the wrong shape, or the metadata is too large, too deep or
            unprintable; nothing is written.
        OSError: the file cannot be written.
    """
    _require_writable(config, tensors)
    # Copied, because the library refuses tensors that share memory.
    stored = {name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in tensors.items()}
    # Only one metadata entry: the library writes several in no fixed order, which would change the digest.
    data = save(stored, metadata={METADATA_KEY: encode_config(config)})
    write_durably(path, data)
    return digest_bytes(data)


def _require_writable(config: AdapterConfig, tensors: Mapping[str, Tensor]) -> None:
    expected = tensor_shapes(config, adapted_layers(tensors))
    faults = FaultList()
    check_metadata(config, Limits(), faults)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            faults.add("missing", name)
        elif name not in expected:
            faults.add("extra: the config does not ask for it", name)
        elif tuple(tensors[name].shape) != expected[name]:
            faults.add(f"its shape is {list(tensors[name].shape)}, not {list(expected[name])}", name)
    faults.raise_if_any()
