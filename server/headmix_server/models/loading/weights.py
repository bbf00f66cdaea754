"""A checkpoint's tensors by name, from one safetensors file or several shards.

Pickle is never read. Tensors are returned one at a time, each as a copy in the compute dtype, and the file is released:
only what a format makes of them stays. Tensors that the family does not take are reported, so a checkpoint with unknown
parts is refused rather than partly used.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import load_file
from torch import Tensor

from headmix_adapters.base import BaseError, weight_files
from headmix_adapters.base.gguf.stored_tensors import StoredTensor
from headmix_server.kernels.row_ops import choose_row_ops
from headmix_server.kernels.stored.pack import FLOATS, KINDS
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.linear import Linear
from headmix_server.models.formats.linear_format import LinearFormat, StoredFormat
from headmix_server.models.formats.stored_linear import StoredMatrix
from headmix_server.models.layers.token_table import TokenTable

_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""How checkpoints converted from TensorFlow name the parts of a norm."""


CPU = torch.device("cpu")


class Checkpoint:
    """The safetensors files of a folder as one mapping.

    `prefix` precedes every name of the family's own model if a head was saved with it; it is optional in the file, and
    callers omit it. `stored` has the matrices that a GGUF file stores in another form.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        form: LinearFormat,
        prefix: str = "",
        device: torch.device = CPU,
        stored: Mapping[str, StoredTensor] = MappingProxyType({}),
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.form = form
        self.row_ops = choose_row_ops(device, dtype)
        self._tensors: dict[str, Tensor] = {}
        for shard in _files(folder):
            for name, tensor in load_file(shard).items():  # mapped, not read: memory is used only once it is copied
                self._tensors[_short(name, prefix)] = tensor
        self._stored = {_short(name, prefix): tensor for name, tensor in stored.items()}
        self.parameters = sum(tensor.numel() for tensor in self._tensors.values())

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Take a tensor out of the checkpoint and return it.

        Raises:
            UnsupportedModelError: it is missing, has another shape, or is not of a plain float type.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            raise UnsupportedModelError(f"the checkpoint lacks {name}")
        if tuple(tensor.shape) != shape:
            raise UnsupportedModelError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype not in _PLAIN:
            raise UnsupportedModelError(f"{name} is {tensor.dtype}; plain weights are served, quantised ones are not")
        del self._tensors[name]
        return tensor.to(self.device, self.dtype, copy=True, memory_format=torch.contiguous_format)

    def linear(self, name: str, outputs: int, inputs: int, *, bias: bool) -> Linear:
        """Return `name.weight` (out, in) and, if present, `name.bias` as one map; raises as `take` does."""
        return self.stacked([(name, outputs)], inputs, bias=bias)

    def stacked(self, parts: Sequence[tuple[str, int]], inputs: int, *, bias: bool) -> Linear:
        """Combine maps with the same input, each given by name and outputs, into one whose results are concatenated."""
        shapes = [(f"{name}.weight", (outputs, inputs)) for name, outputs in parts]
        form, matrices = self._take_stored(shapes)
        weights = [] if matrices else [self.take(name, shape) for name, shape in shapes]
        biases = _join([self.take(f"{name}.bias", (outputs,)) for name, outputs in parts]) if bias else None
        return form.stored_linear(matrices, biases) if form else self.form.linear(_join(weights), biases)

    def transposed(self, name: str, outputs: int, inputs: int) -> Linear:
        """Return `name.weight`, which is (in, out), and `name.bias` as one map; raises as `take` does."""
        place, bias = (f"{name}.weight", (inputs, outputs)), self.take(f"{name}.bias", (outputs,))
        form, matrices = self._take_stored([place], transposed=True)
        if form:
            return form.stored_linear(matrices, bias)
        return self.form.linear(self.take(*place).t().contiguous(), bias)

    def table(self, name: str, shape: tuple[int, int]) -> TokenTable:
        """Return a tensor as a table of embeddings; raises as `take` does."""
        form, matrices = self._take_stored([(name, shape)])
        return form.stored_table(matrices[0]) if form else self.form.table(self.take(name, shape))

    def tied(self, name: str, shape: tuple[int, int]) -> tuple[TokenTable, Linear]:
        """Return a tensor as a table of embeddings and as the head tied to it; raises as `take` does."""
        form, matrices = self._take_stored([(name, shape)])
        return form.stored_tied(matrices[0]) if form else self.form.tied(self.take(name, shape), self.parameters)

    def _take_stored(
        self, places: Sequence[tuple[str, tuple[int, int]]], *, transposed: bool = False
    ) -> tuple[StoredFormat | None, list[StoredMatrix]]:
        """Take matrices out of the checkpoint as they are stored, and return them with the format that keeps them.

        Return neither if the format does not keep such matrices, or if one of them is float32, missing or of another
        shape: `take` reports that.
        """
        if not isinstance(self.form, StoredFormat):
            return None, []
        found = [self._find_stored(name, shape, transposed=transposed) for name, shape in places]
        matrices = [matrix for matrix in found if matrix is not None]
        if len(matrices) < len(found):
            return None, []
        for name, _ in places:
            del self._tensors[name]
            self._stored.pop(name, None)
        return self.form, matrices

    def _find_stored(self, name: str, shape: tuple[int, int], *, transposed: bool) -> StoredMatrix | None:
        tensor, stored = self._tensors.get(name), self._stored.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            return None
        if stored is not None and stored.kind in KINDS and not transposed:
            rows = torch.from_numpy(stored.rows)
            return StoredMatrix(stored.kind, rows.view(FLOATS[stored.kind]) if stored.kind in FLOATS else rows)
        kind = next((kind for kind, dtype in FLOATS.items() if dtype == tensor.dtype), None)
        return None if kind is None else StoredMatrix(kind, tensor.t() if transposed else tensor)

    def refuse_rest(self, ignored: tuple[str, ...] = ()) -> None:
        """Check that every tensor was taken, except those whose name begins or ends with one of `ignored`.

        Raises:
            UnsupportedModelError: the checkpoint contains parts that the family does not use.
        """
        rest = sorted(name for name in self._tensors if not (name.endswith(ignored) or name.startswith(ignored)))
        if rest:
            raise UnsupportedModelError(f"the checkpoint holds {len(rest)} unknown tensors, the first is {rest[0]}")


Weights = Callable[[str], Checkpoint]
"""Opens a checkpoint given its optional prefix. A family calls it once it knows that its config is supported."""


def _join(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _short(name: str, prefix: str) -> str:
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name.removeprefix(prefix)


def _files(folder: Path) -> tuple[Path, ...]:
    try:
        return weight_files(folder)
    except BaseError as error:
        raise UnsupportedModelError(str(error)) from error
