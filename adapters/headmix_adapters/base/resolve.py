"""From the name a person gives to a model folder that can be served and trained on.

Owns the search order. Does not load torch: if a GGUF file must be converted, a subprocess does it, once.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.base.cache import cache_key, default_cache_dir
from headmix_adapters.base.embedded import EMBEDDED, embedded_path
from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.folder import read_base_shape
from headmix_adapters.base.gguf.conversion import OnProgress, run_conversion
from headmix_adapters.base.hub import hub_folder, is_hub_id
from headmix_adapters.config import BaseShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A base on this machine: `folder` contains config.json, the safetensors weights and the tokenizer's files.

    `gguf` is the file the folder was converted from, if any.
    """

    name: str
    folder: Path
    shape: BaseShape
    gguf: Path | None = None


def _unheard(_: object) -> None:
    pass


def resolve_base(name: str, *, cache_dir: Path | None = None, on_progress: OnProgress = _unheard) -> ResolvedBase:
    """Find a base by embedded name, local folder, GGUF file or hub id, in this order.

    Resolving a GGUF file for the first time converts it to a safetensors folder under `cache_dir` (seconds to minutes);
    `on_progress` is called several times a second meanwhile, and an exception it raises ends the conversion and reaches
    the caller. Later calls take well under a second for small models.

    Raises:
        BaseError: there is nothing of this name, or it is not a usable model; the message says what to do.
    """
    cache = cache_dir if cache_dir is not None else default_cache_dir()
    if name in EMBEDDED:
        return _resolve_path(name, embedded_path(name, cache), cache, on_progress)
    path = _path(name)
    if name and path.exists():
        own_name = path.resolve().stem if path.is_file() else path.resolve().name
        return _resolve_path(own_name, path, cache, on_progress)
    if not is_hub_id(name) or path.suffix == ".gguf":
        raise BaseError(f"no base {name}: there is no such file or folder (embedded bases: {', '.join(EMBEDDED)})")
    return _resolve_folder(name, hub_folder(name))


def _path(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:  # no such user, too long for a path, a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BaseError(f"no base {name}: {reason}") from error
    return path


def _resolve_path(name: str, path: Path, cache: Path, on_progress: OnProgress) -> ResolvedBase:
    if path.is_dir():
        return _resolve_folder(name, path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise BaseError(f"{path} is not a GGUF file; a base is a GGUF file or a model folder")
    return _resolve_folder(name, _converted(path, cache, on_progress), path)


def _resolve_folder(name: str, folder: Path, gguf: Path | None = None) -> ResolvedBase:
    folder = folder.resolve()
    return ResolvedBase(name, folder, read_base_shape(name, folder), gguf)


def _converted(gguf: Path, cache_dir: Path, on_progress: OnProgress) -> Path:
    folder = cache_dir / cache_key(gguf)
    # The converter renames a finished folder into place, so if the folder exists it is complete.
    if folder.is_dir():
        return folder
    logger.info("converting %s to safetensors, once, into %s", gguf.name, folder)
    started = time.monotonic()
    run_conversion(gguf, folder, on_progress)
    logger.info("converted %s in %.0f s", gguf.name, time.monotonic() - started)
    return folder
