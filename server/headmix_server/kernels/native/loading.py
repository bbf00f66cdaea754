"""Having the native operations in this process, or a warning and the torch path.

The first caller builds where nothing is cached; the answer holds for the life of the process.
"""

from functools import cache
from pathlib import Path
from time import perf_counter

import torch

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.build import BuildError, build_library, default_cache_dir


@cache
def load_native() -> bool:
    """Load `torch.ops.headmix`; False, with the reason logged, where this machine cannot have it."""
    log = get_logger("native")
    started = perf_counter()
    try:
        library = load_library(Path(__file__).parent, default_cache_dir())
    except BuildError as error:
        log.warning("native kernels unavailable, falling back to torch's own operations", reason=str(error))
        return False
    lanes = int(torch.ops.headmix.vector_lanes())
    log.info("native kernels", library=str(library), lanes=lanes, seconds=round(perf_counter() - started, 2))
    return True


def load_library(folder: Path, cache_dir: Path) -> Path:
    """Build the folder's library where it is not cached, and load it; one that this system cannot load is built again.

    Raises:
        BuildError: it cannot be built, or what was built cannot be loaded.
    """
    library = build_library(folder, cache_dir)
    try:
        _load(library)
    except OSError:  # for example made against another libstdc++, in a cache that came with an image
        library.unlink(missing_ok=True)
        library = build_library(folder, cache_dir)
        try:
            _load(library)
        except OSError as error:
            raise BuildError(f"{library} cannot be loaded: {error.__cause__ or error}") from error
    return library


def _load(library: Path) -> None:
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
