"""The form of a base's weights in memory, the checkpoint's own or unpacked, and the kinds the checkpoint stores."""

from collections.abc import Mapping
from pathlib import Path

import torch

from headmix_adapters.artifact.faults import ArtifactError
from headmix_adapters.artifact.header import LARGEST_HEADER, read_header
from headmix_adapters.base import BaseError, ResolvedBase, weight_files
from headmix_adapters.base.gguf.stored_tensors import StoredTensor, read_stored_tensors
from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.stored.pack import FLOATS, KINDS
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.choose_format import Quantize, Weights, choose_format, choose_kinds, stored_fault
from headmix_server.models.formats.linear_format import LinearFormat

_MATRIX = 2


def choose_weights(
    base: ResolvedBase, wanted: Weights, dtype: torch.dtype, quantize: Quantize, device: torch.device
) -> tuple[LinearFormat, Mapping[str, StoredTensor]]:
    """Return the format to load a base in, and the matrices that its GGUF file stores, for `load_model`.

    Raises:
        UnsupportedModelError: the requested form is unavailable here.
    """
    if wanted == "float32" and dtype != torch.float32:
        raise UnsupportedModelError(f"--weights float32 is not served here: {stored_fault(dtype, quantize, device)}")
    fault = stored_fault(dtype, quantize, device)
    stored = {} if fault or wanted == "float32" else _read_gguf(base, wanted)
    kinds = choose_kinds(wanted, () if fault else read_stored_kinds(base.folder, stored), fault)
    return choose_format(dtype, quantize, device, kinds), stored if kinds else {}


def _read_gguf(base: ResolvedBase, wanted: Weights) -> dict[str, StoredTensor]:
    if base.gguf is None:
        return {}
    try:
        return read_stored_tensors(base.gguf, base.folder)
    except (OSError, ValueError) as error:
        if wanted == "stored":
            raise UnsupportedModelError(f"--weights stored: {base.gguf} cannot be read: {error}") from error
        get_logger("models").warning("the GGUF file cannot be read again", reason=str(error))
        return {}


def read_stored_kinds(folder: Path, stored: Mapping[str, StoredTensor]) -> frozenset[str]:
    """Return the kinds that are multiplied as stored, among a folder's matrices and those that its GGUF file stores.

    An unreadable folder has none: loading it reports the error.
    """
    kinds = {tensor.kind for tensor in stored.values()}
    try:
        for path in weight_files(folder):
            with path.open("rb") as file:
                tensors = read_header(file, max_bytes=LARGEST_HEADER).tensors.values()
            kinds |= {tensor.dtype for tensor in tensors if len(tensor.shape) == _MATRIX and tensor.dtype in FLOATS}
    except (OSError, BaseError, ArtifactError):
        return frozenset()
    return frozenset(kinds & KINDS)
