"""The weights of a base's sites, read one at a time from its files. Knows no adapters."""

from pathlib import Path

import torch
from torch import Tensor

from headmix_adapters.base.errors import BaseError
from headmix_adapters.config import BaseShape
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.families import UnknownFamilyError, family_of
from headmix_adapters.sites import symbol_sizes


class BaseWeights:
    """The matrices of a base folder by layer and site, (out, in) in float32.

    Raises:
        BaseError: the base's family is unknown.
    """

    def __init__(self, folder: Path, shape: BaseShape) -> None:
        try:
            self._family = family_of(shape.model_type)
        except UnknownFamilyError as error:
            raise BaseError(f"{shape.name}: {error}") from error
        self._checkpoint = BaseCheckpoint(folder)
        self._sizes = symbol_sizes(shape, rank=0)
        self._name = shape.name

    def read(self, layer: int, site: str) -> Tensor:
        """Return one site's matrix; the rows of a site that several modules compute are joined.

        Raises:
            BaseError: the base has no such matrix, or it has another size.
        """
        rows = []
        for path, parts in self._family.modules.items():
            if any(part.site == site for part in parts):
                weight = self._matrix(f"{self._family.layers}.{layer}.{path}.weight")
                widths = [self._sizes[part.width] for part in parts]
                if weight.shape != (sum(widths), self._sizes[parts[0].reads]):
                    raise BaseError(f"{self._name}: layer {layer}, {path} has the shape {tuple(weight.shape)}")
                pieces = torch.split(weight, widths)
                rows += [piece for part, piece in zip(parts, pieces, strict=True) if part.site == site]
        return torch.cat(rows)

    def _matrix(self, name: str) -> Tensor:
        try:
            weight = self._checkpoint.read(name).float()
        except ConvertError as error:
            raise BaseError(f"{self._name}: {error}") from error
        return weight.T if self._family.transposed else weight
