"""Having the native operations in this process, or a warning and the torch path.

A library that was compiled ahead comes first: it needs no compiler, and one compiled here is hardly faster. Without one
for this processor the first caller compiles where nothing is cached. The answer holds for the life of the process.
"""

from functools import cache
from pathlib import Path
from time import perf_counter

import torch

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.build import BuildError, build_library, default_cache_dir
from headmix_server.kernels.native.processor import best_library, processor_features

SOURCES = Path(__file__).parent
AHEAD = SOURCES / "ahead"
"""Where a wheel has what was compiled ahead; a source tree has no such folder."""


@cache
def load_native() -> bool:
    """Load `torch.ops.headmix`; False, with the reason logged, where this machine cannot have it."""
    log = get_logger("native")
    started = perf_counter()
    built, library = "ahead", load_ahead(AHEAD)
    try:
        if library is None:
            built, library = "here", load_library(SOURCES, default_cache_dir())
    except BuildError as error:
        log.warning("native kernels unavailable, falling back to torch's own operations", reason=str(error))
        return False
    lanes = int(torch.ops.headmix.vector_lanes())
    seconds = round(perf_counter() - started, 2)
    log.info("native kernels", built=built, library=str(library), lanes=lanes, seconds=seconds)
    return True


def load_ahead(folder: Path) -> Path | None:
    """Load the folder's library for this processor and return it; None if there is none, or this system refuses it."""
    library = best_library(folder, processor_features())
    if library is None:
        return None
    try:
        _load(library)
    except OSError as error:  # for example made for a newer libc
        reason = str(error.__cause__ or error)
        get_logger("native").warning("the kernels compiled ahead cannot be loaded, compiling them here", reason=reason)
        return None
    return library


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
