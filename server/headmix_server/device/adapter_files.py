"""Reading an artifact into host memory, checked to be the one that was asked for.

Runs on loader threads; touches nothing shared.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from headmix_adapters.artifact import ArtifactError, digest_file, open_artifact
from headmix_adapters.artifact.tensors import load_tensors
from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_server.core.runner import AdapterLoadError
from headmix_server.core.types import AdapterRef


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An artifact in host memory, in the precision it is stored in."""

    digest: str
    config: AdapterConfig
    layers: tuple[int, ...]
    tensors: dict[str, Tensor]


def load_adapter(ref: AdapterRef, base: BaseShape) -> LoadedAdapter:
    """Read the artifact of a digest.

    Raises:
        AdapterLoadError: the file is gone, damaged, not the one named, or made for a base of other dimensions.
    """
    path = Path(ref.path)
    try:
        found = digest_file(path)
        if found != ref.digest:
            raise AdapterLoadError(f"its bytes have digest {found}, not {ref.digest}: the file is damaged")
        artifact = open_artifact(path)
        tensors = load_tensors(path)
    except FileNotFoundError as error:
        raise AdapterLoadError("its file is gone", missing=True) from error
    except (OSError, ArtifactError) as error:
        raise AdapterLoadError(str(error)) from error
    _check_base(artifact.config, base)
    return LoadedAdapter(ref.digest, artifact.config, artifact.layers, tensors)


_DIMENSIONS = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size")
_MLP_DIMENSIONS = ("intermediate_size", "gated_mlp")


def _check_base(config: AdapterConfig, base: BaseShape) -> None:
    dimensions = _DIMENSIONS + (_MLP_DIMENSIONS if config.sites.adapts_mlp() else ())
    wrong = [name for name in dimensions if getattr(config.base, name) != getattr(base, name)]
    if wrong:
        raise AdapterLoadError(f"it was made for a base with other dimensions ({', '.join(wrong)})")
