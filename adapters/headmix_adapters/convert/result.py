"""The result of a conversion, and how it is written: first verified, then made visible."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from headmix_adapters.artifact import verify_artifact
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import AdapterConfig


@dataclass(frozen=True, slots=True)
class Converted:
    """An artifact in memory; `notes` tell the user what was rearranged (exactly) in the conversion."""

    config: AdapterConfig
    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    notes: tuple[str, ...] = ()


def converter_name() -> str:
    """Return the `created_by` value of artifacts made by conversion."""
    return f"headmix {version('headmix')} convert"


def save_converted(converted: Converted, path: Path) -> str:
    """Write the artifact, verified in full as at upload before it appears at the path, and return its digest.

    Raises:
        ArtifactError: it breaks a rule of the format (a rank above the limit, zero effect); nothing is left behind.
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        digest = write_artifact(draft, converted.config, converted.tensors, converted.dtype)
        verify_artifact(draft, base=converted.config.base)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return digest
