"""Loading the native operations into this process; without them, a warning and the torch path.

A library compiled ahead of time comes first: it needs no compiler, and one compiled here is hardly faster. Without one
for this processor, the first caller compiles it unless it is cached. The outcome holds for the life of the process.
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
"""Where a wheel keeps the libraries compiled ahead of time; a source tree has no such folder."""


@cache
def load_native() -> bool:
    """Load `torch.ops.headmix`; return False, with the reason logged, if this machine cannot load it."""
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
    """Load and return the folder's library for this processor; None if there is none or this system cannot load it."""
    library = best_library(folder, processor_features())
    if library is None:
        return None
    try:
        _load(library)
    except OSError as error:  # for example, built for a newer libc
        reason = str(error.__cause__ or error)
        get_logger("native").warning("the kernels compiled ahead cannot be loaded, compiling them here", reason=reason)
        return None
    return library


def load_library(folder: Path, cache_dir: Path) -> Path:
    """Build the folder's library unless it is cached, and load it; if this system cannot load it, build it again.

    Raises:
        BuildError: it cannot be built, or the build cannot be loaded.
    """
    library = build_library(folder, cache_dir)
    try:
        _load(library)
    except OSError:  # for example, built against another libstdc++, in a cache shipped with an image
        library.unlink(missing_ok=True)
        library = build_library(folder, cache_dir)
        try:
            _load(library)
        except OSError as error:
            raise BuildError(f"{library} cannot be loaded: {error.__cause__ or error}") from error
    return library


def _load(library: Path) -> None:
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
