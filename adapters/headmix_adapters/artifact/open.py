"""An artifact as its header describes it, opened without reading a single tensor.

Owns the step from a file to a config and a tensor index. It checks only what it needs to understand the header;
`verify` checks the rest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

from headmix_adapters.artifact.checks.layout import layer_of
from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.artifact.faults import ArtifactError, ArtifactFault, quoted
from headmix_adapters.artifact.header import Header, TensorEntry, read_header
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.choices import choices_after
from headmix_adapters.config import METADATA_KEY, AdapterConfig, decode_config


@dataclass(frozen=True, slots=True)
class Artifact:
    """An adapter's file: its description, and where its tensors are."""

    path: Path
    config: AdapterConfig
    tensors: Mapping[str, TensorEntry]
    size_bytes: int

    @property
    def layers(self) -> tuple[int, ...]:
        """The adapted layers in ascending order; the other layers are the base's, unchanged."""
        return adapted_layers(self.tensors)

    @property
    def num_parameters(self) -> int:
        """How many numbers the file contains."""
        return sum(prod(entry.shape) for entry in self.tensors.values())


def open_artifact(path: Path, *, limits: Limits | None = None) -> Artifact:
    """Read an artifact's header.

    Raises:
        ArtifactError: the header is not that of an artifact.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return artifact_from(file, path, limits or Limits())


def artifact_from(file: BinaryIO, path: Path, limits: Limits) -> Artifact:
    """Read the header of a file that is already open; raises what `open_artifact` raises."""
    header = read_header(file, max_bytes=limits.max_header_bytes)
    size = file.seek(0, 2)
    return Artifact(path, _config(header, limits), header.tensors, size)


def adapted_layers(names: Iterable[str]) -> tuple[int, ...]:
    """Return the layers that the tensors with these names adapt, in ascending order."""
    return tuple(sorted({layer for name in names if (layer := layer_of(name)) is not None}))


def _config(header: Header, limits: Limits) -> AdapterConfig:
    text = header.metadata.get(METADATA_KEY)
    if text is None:
        raise ArtifactError([ArtifactFault(None, _without_config(header.tensors))])
    data = text.encode()
    if len(data) > limits.max_config_bytes:
        reason = (
            f"the {METADATA_KEY} metadata is {len(data)} bytes long, more than the limit of {limits.max_config_bytes}"
        )
        raise ArtifactError([ArtifactFault(None, reason)])
    try:
        parse_strict(data)
        return decode_config(text)
    except msgspec.ValidationError as error:
        reason = quoted(str(error)) + choices_after(error, AdapterConfig)
    except (ValueError, RecursionError) as error:
        reason = f"not valid JSON: {quoted(str(error))}"
    raise ArtifactError([ArtifactFault(None, f"the {METADATA_KEY} metadata: {reason}")])


def _without_config(names: Iterable[str]) -> str:
    """Return the message for a valid safetensors file without an artifact's description."""
    if any(".lora_" in name for name in names):
        return (
            "these are a PEFT LoRA's weights, not an artifact: run `headmix convert` on its folder, or upload it with "
            "adapter_config.json as the field config"
        )
    return f"this is not a headmix artifact: the header's __metadata__ has no {METADATA_KEY} entry"
