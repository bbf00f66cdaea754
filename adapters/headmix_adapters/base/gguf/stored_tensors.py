"""A GGUF file's matrices as stored, under the names and in the row order of its converted folder.

Tensors are matched by content: one is kept for a matrix of the folder only if its rows, unpacked, equal that matrix
bit for bit, in whatever order the conversion left them. So nothing here depends on how names are mapped, and a folder
converted by an older release gets its blocks too. They are kept in their own file in that folder, which is not part
of the base's fingerprint; if it cannot be written, they are read again each time. Does not load torch.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.artifact.header import LARGEST_HEADER, read_header
from headmix_adapters.base.weight_files import SINGLE

FILE = "stored_tensors.safetensors"
VERSION = "1"
"""Increment when the file's content for the same input changes."""

_VERSION_KEY = "version"
_MATRIX = 2

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A matrix: `rows` [out, bytes per row] are its stored bytes, one row per output; `kind` is GGUF's type name."""

    kind: str
    rows: Bytes


def read_stored_tensors(gguf: Path, folder: Path) -> dict[str, StoredTensor]:
    """Return the matrices of `folder` as stored in `gguf`, from which it was converted; matched once per folder.

    Raises:
        OSError, ValueError: the GGUF file or the folder cannot be read.
    """
    path = folder / FILE
    if (known := _read(path)) is not None:
        return known
    try:
        with FileLock(folder / f".{FILE}.lock"):
            if (known := _read(path)) is not None:
                return known
            found = find_stored_tensors(gguf, folder)
            _write(path, found)
            return found
    except OSError as error:
        logger.warning("%s cannot be written, the stored tensors are looked for at every start: %s", path, error)
        return find_stored_tensors(gguf, folder)


def find_stored_tensors(gguf: Path, folder: Path) -> dict[str, StoredTensor]:
    """Compare the GGUF file's matrices with the folder's, row by row."""
    from gguf import GGUFReader, dequantize

    found: dict[str, StoredTensor] = {}
    wanted = [(_digest(matrix[0]), name, matrix) for name, matrix in _map_matrices(folder / SINGLE)]
    for tensor in GGUFReader(gguf).tensors:
        kind = tensor.tensor_type
        if len(tensor.shape) != _MATRIX or kind.name == "F32":
            continue
        values: Floats = dequantize(tensor.data, kind)
        places = {_digest(row): place for place, row in enumerate(values)}
        for first, name, matrix in wanted:
            if first not in places or matrix.shape != values.shape:
                continue
            order = [places.get(_digest(row), -1) for row in matrix]
            if -1 not in order and np.array_equal(values[order].view(np.uint32), matrix.view(np.uint32)):
                raw: Bytes = np.ascontiguousarray(tensor.data).view(np.uint8)[order]
                found[name] = StoredTensor(kind.name, raw)
    return found


def _map_matrices(path: Path) -> Iterator[tuple[str, Floats]]:
    """Yield the float32 matrices of a safetensors file by name, memory-mapped: only what is read takes memory."""
    with path.open("rb") as file:
        entries = read_header(file, max_bytes=LARGEST_HEADER).tensors.values()
    for entry in entries:
        if len(entry.shape) == _MATRIX and entry.dtype == "F32" and 0 not in entry.shape:
            yield entry.name, np.memmap(path, np.dtype("<f4"), "r", entry.start, entry.shape)


def _digest(row: Floats) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _read(path: Path) -> dict[str, StoredTensor] | None:
    """Return what the file contains, or None if it is missing or was written by another release."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            kinds = file.metadata() or {}
            if kinds.pop(_VERSION_KEY, None) != VERSION:
                return None
            return {name: StoredTensor(kind, file.get_tensor(name)) for name, kind in kinds.items()}
    except (OSError, SafetensorError):
        return None


def _write(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write the file, all or nothing."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    kinds = {name: tensor.kind for name, tensor in tensors.items()}
    try:
        save_file({name: t.rows for name, t in tensors.items()}, temporary, metadata={**kinds, _VERSION_KEY: VERSION})
        temporary.chmod((path.parent / SINGLE).stat().st_mode)
        sync_path(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)
