"""Tensors of the base a foreign adapter was made for, found regardless of the prefix the checkpoint's task added."""

import re
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from headmix_adapters.base.weight_files import weight_files
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.families import BACKBONES

_PREFIX = re.compile(rf"^(?:module\.)?(?:{'|'.join(BACKBONES)})\.")


def bare_name(name: str) -> str:
    """Return a tensor's name without the task's prefix: `transformer.h.0.ln_1.bias` -> `h.0.ln_1.bias`."""
    return _PREFIX.sub("", name)


class BaseCheckpoint:
    """The base's safetensors files; tensors are read on demand, in the file's dtype."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _files(self) -> dict[str, tuple[Path, str]]:
        """The file and full name of each bare name; read when the first tensor is requested."""
        files: dict[str, tuple[Path, str]] = {}
        for path in weight_files(self._folder):
            try:
                with safe_open(path, framework="pt") as file:
                    files |= {bare_name(name): (path, name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            except SafetensorError as error:
                raise ConvertError(path.name, f"not a sound safetensors file: {error}") from None
        return files

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> Tensor:
        """Return a tensor by its bare name.

        Raises:
            ConvertError: the base has no such tensor.
        """
        if name not in self._files:
            raise ConvertError(name, "the base's checkpoint has no such tensor, and the adapter needs it")
        path, stored = self._files[name]
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(stored)
        return tensor
