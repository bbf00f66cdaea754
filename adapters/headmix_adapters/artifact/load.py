"""An artifact's tensors in torch. Trusts the file: use it only for artifacts that were verified."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor by name, on the CPU, in the file's dtype.

    Raises:
        OSError, safetensors.SafetensorError: the file cannot be read or is not safetensors.
    """
    return load_file(path, device="cpu")
