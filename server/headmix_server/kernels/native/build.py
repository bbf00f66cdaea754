"""Building the native library: the compiler, its flags, and the cache of results.

A build is named after everything it depends on (sources, torch, flags, processor), so a cache that moves to another
machine is never loaded there. If several processes ask at once, one builds and the others wait for it. The same
compiler produces the same bytes from the same sources, in any folder. Knows nothing of the operations inside.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock

from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.base.cache import default_cache_dir as bases_dir
from headmix_adapters.machine.cpus import read_cpu_budget
from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.processor import HERE, Level, processor_features

LOWEST_TORCH = (2, 10)
"""The oldest torch that the library loads in, whichever headers it is built with; pyproject.toml requires it."""

FLAGS = (
    *("-O3", "-std=gnu++20", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"),
    f"-DTORCH_TARGET_VERSION=0x{LOWEST_TORCH[0]:02x}{LOWEST_TORCH[1]:02x}{0:012x}",
)
"""gnu++20, not c++20: only then may the compiler fuse a product and a sum into one instruction. Without a target
version the headers use that of their own torch, and an older torch cannot load the result."""

COMPILE_SECONDS = 300
"""A compiler that takes longer has hung."""


class BuildError(Exception):
    """There is no native library; the message gives the reason."""


def default_cache_dir() -> Path:
    """Return the folder of native builds, next to the converted bases in the user's cache."""
    return bases_dir().parent / "native"


def find_compiler() -> str | None:
    """Return the C++ compiler to use: CXX, else the first available of c++, g++ and clang++, else None."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else ("c++", "g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


def build_library(folder: Path, cache: Path, level: Level = HERE) -> Path:
    """Return the library built from the folder's .cpp files, from the cache if it exists already.

    It is built for this processor, or for every processor of a level.

    Raises:
        BuildError: there is no compiler or it failed, or the cache cannot be written.
    """
    sources = sorted(folder.glob("*.cpp"))
    library = cache / f"headmix-{_build_key(sorted([*sources, *folder.glob('*.h')]), level)}.so"
    if library.exists():
        return library
    compiler = find_compiler()
    if compiler is None:
        raise BuildError("no C++ compiler (CXX, c++, g++, clang++) was found")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "build.lock"):
            if not library.exists():
                get_logger("native").info("compiling the kernels, once (10 to 30 s)", processor=level.name)
                _compile(compiler, level, sources, library)
    except OSError as error:
        raise BuildError(f"{cache}: {error}") from error
    return library


def _build_key(files: Sequence[Path], level: Level) -> str:
    digest = hashlib.sha256()
    features = " ".join(sorted(processor_features())) or torch.backends.cpu.get_cpu_capability()
    here = features if level is HERE else ""
    for part in (torch.__version__, *FLAGS, *level.flags, platform.machine(), here):
        digest.update(f"{part}\0".encode())
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def _compile(compiler: str, level: Level, sources: Sequence[Path], library: Path) -> None:
    """Compile all sources at once, each by itself, and move the linked library into place atomically."""
    torch_folder = Path(torch.__file__).parent
    includes = ["-isystem", str(torch_folder / "include"), f"-ffile-prefix-map={torch_folder}=torch"]
    command = [compiler, *FLAGS, *level.flags, *includes]
    with TemporaryDirectory(dir=library.parent, prefix="build-") as scratch:
        objects = {source: str(Path(scratch) / f"{source.stem}.o") for source in sources}
        with ThreadPoolExecutor(read_cpu_budget().cores) as pool:
            list(pool.map(lambda source: _run([*command, *_one_source(source), "-o", objects[source]]), sources))
        linked = Path(scratch) / library.name
        libraries = [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
        names = () if level is HERE else ("-s",)  # a library built here keeps its symbols for profilers
        _run([compiler, "-shared", *names, *objects.values(), *libraries, "-o", str(linked)])
        sync_path(linked)  # a truncated library would not fail to load, it would crash the process
        linked.replace(library)


def _one_source(source: Path) -> list[str]:
    """Return the flags that compile one source and keep its folder out of the result."""
    return [f"-ffile-prefix-map={source.parent}=headmix", f"-frandom-seed={source.name}", "-c", str(source)]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {COMPILE_SECONDS} s") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
