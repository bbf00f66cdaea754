"""A base's identity: one value that changes when any tensor's name, dtype, shape or (sampled) bytes change.

Reads safetensors files directly. It does not matter how the tensors are spread over files.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.artifact.faults import ArtifactError
from headmix_adapters.artifact.header import TensorEntry, read_header
from headmix_adapters.base.blocks import sample_blocks
from headmix_adapters.base.errors import BaseError

BLOCKS_PER_TENSOR = 16
# The safetensors library's own limit.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class _Stored:
    file: Path
    entry: TensorEntry


def fingerprint(files: Sequence[Path]) -> str:
    """Return `sha256:<hex>` of a model's weights: every tensor's name, dtype, shape and 16 blocks of its bytes.

    Raises:
        BaseError: a file is not a valid safetensors file, or two files contain the same tensor.
    """
    digest = hashlib.sha256()
    handles = {path: path.open("rb") for path in files}
    try:
        tensors: dict[str, _Stored] = {}
        for path, handle in handles.items():
            try:
                header = read_header(handle, max_bytes=MAX_HEADER_BYTES)
            except ArtifactError as error:
                raise BaseError(f"{path}: {error}") from None
            if doubled := header.tensors.keys() & tensors.keys():
                raise BaseError(f"{path}: tensor {min(doubled)} is in another weight file too")
            tensors |= {name: _Stored(path, entry) for name, entry in header.tensors.items()}
        for name in sorted(tensors):
            stored = tensors[name]
            entry = stored.entry
            digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
            for block in sample_blocks(handles[stored.file], entry.start, entry.stop, BLOCKS_PER_TENSOR):
                digest.update(block)
    finally:
        for handle in handles.values():
            handle.close()
    return f"sha256:{digest.hexdigest()}"
