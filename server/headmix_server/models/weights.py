"""A checkpoint's tensors by name, from one safetensors file or several shards.

Pickle is never read. Tensors are handed out one at a time and cast to the computing dtype; what is not taken by the
family is reported, so a checkpoint with parts the code does not know is refused rather than half used.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from headmix_server.models.config import UnsupportedModelError

_INDEX = "model.safetensors.index.json"


class Checkpoint:
    """The safetensors files of a folder as one mapping."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._tensors: dict[str, Tensor] = {}
        for shard in _shards(folder):
            self._tensors |= load_file(shard)  # mapped, not read: a tensor costs memory once it is used or cast
        self._untaken = set(self._tensors)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor.

        Raises:
            UnsupportedModelError: it is missing or has another shape.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            raise UnsupportedModelError(f"the checkpoint lacks {name}")
        if tuple(tensor.shape) != shape:
            raise UnsupportedModelError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        self._untaken.discard(name)
        return tensor.to(self._dtype).contiguous()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def refuse_rest(self, ignored: tuple[str, ...] = ()) -> None:
        """Check that every tensor was taken, apart from those whose name ends with one of `ignored`.

        Raises:
            UnsupportedModelError: the checkpoint holds parts the family does not compute with.
        """
        rest = sorted(name for name in self._untaken if not name.endswith(ignored))
        if rest:
            raise UnsupportedModelError(f"the checkpoint holds {len(rest)} unknown tensors, the first is {rest[0]}")


def _shards(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        names = set(json.loads((folder / _INDEX).read_text())["weight_map"].values())
        return [folder / name for name in sorted(names)]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    raise UnsupportedModelError(f"{folder} holds no safetensors weights")
