"""Reading an artifact into host memory, and checking that it is the requested one.

Runs on loader threads next to the engine's own thread, so it reads the bytes once and runs no Python code per number.
Touches no shared state.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.artifact.digest import PREFIX
from headmix_adapters.artifact.parse import StoredArtifact, read_stored
from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_server.core.runner import AdapterLoadError, require_base
from headmix_server.core.types import AdapterRef
from headmix_server.device.adapters.adapter_image import AdapterImage, make_image


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An artifact in host memory. `rest` are the tensors outside the layers, by name, as stored.

    `device_bytes` is the memory it takes on the device, 0 until it has been prepared for the device.
    """

    digest: str
    config: AdapterConfig
    image: AdapterImage
    rest: dict[str, Tensor]
    device_bytes: int = 0

    @property
    def host_bytes(self) -> int:
        """Host memory that its tensors take."""
        tables = (self.image.offsets, self.image.ranks, self.image.scales)
        return sum(tensor.nbytes for tensor in (self.image.numbers, *tables, *self.rest.values()))


def load_adapter(ref: AdapterRef, base: BaseShape) -> LoadedAdapter:
    """Read the artifact with a given digest.

    Raises:
        AdapterLoadError: it was accepted for another base, or the file is missing, damaged, not the one named, or made
            for a base with other dimensions.
    """
    require_base(ref, base.fingerprint)
    try:
        content = _read(Path(ref.path))
        found = PREFIX + hashlib.sha256(content).hexdigest()
        if found != ref.digest:
            raise AdapterLoadError(f"its bytes have digest {found}, not {ref.digest}: the file is damaged")
        stored = read_stored(content)
    except FileNotFoundError as error:
        raise AdapterLoadError("its file is missing", missing=True) from error
    except (OSError, ArtifactError) as error:
        raise AdapterLoadError(str(error)) from error
    _check_base(stored.config, base)
    return from_stored(ref.digest, stored)


def from_stored(digest: str, stored: StoredArtifact) -> LoadedAdapter:
    """Convert an artifact's bytes to the form that a device takes; the bytes are not kept afterwards."""
    rest = {name: stored.tensor(name).clone() for name in stored.names() if not name.startswith("layers.")}
    return LoadedAdapter(digest, stored.config, make_image(stored), rest)


def _read(path: Path) -> bytearray:
    """Read a whole file into memory that tensors can be views of."""
    with path.open("rb", buffering=0) as file:
        content = bytearray(file.seek(0, 2))
        file.seek(0)
        view, at = memoryview(content), 0
        while at < len(content):
            count = file.readinto(view[at:])
            if not count:
                raise AdapterLoadError("its file shrank while it was read")
            at += count
    return content


_DIMENSIONS = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size")
_MLP_DIMENSIONS = ("intermediate_size", "gated_mlp")


def _check_base(config: AdapterConfig, base: BaseShape) -> None:
    dimensions = _DIMENSIONS + (_MLP_DIMENSIONS if config.sites.adapts_mlp() else ())
    wrong = [name for name in dimensions if getattr(config.base, name) != getattr(base, name)]
    if wrong:
        raise AdapterLoadError(f"it was made for a base with other dimensions ({', '.join(wrong)})")
