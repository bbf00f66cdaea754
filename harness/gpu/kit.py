"""Packs what a GPU machine without a package registry lacks: `python -m harness.gpu.kit` (`make gpu-kit`).

Such a machine has Python, torch with CUDA, Triton and transformers, with their dependencies. The kit is a folder with
wheels of everything else that headmix's server and its tests import, in this environment's versions but for that
machine's Python, and `run.sh`, which installs them next to the machine's own packages and runs `harness.gpu.proof`.
FlashInfer is left out because of its size: `--with flashinfer-python` includes it.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = (
    "headmix[server,train]",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "hypothesis",
    "openai",
    "psutil",
    "pycurl",
    "torchao",
)
PRESENT = ("torch", "triton", "transformers", "numpy", "tokenizers", "safetensors", "huggingface-hub", "accelerate")
"""What the machine has; it also has the dependencies of these."""

PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)),  # pip matches each exactly; 2.39 is Ubuntu 24.04's
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "any",
)


def main() -> None:
    """Pack the kit and print where it is."""
    parser = argparse.ArgumentParser(prog="harness.gpu.kit", description="Pack wheels for a GPU machine.")
    parser.add_argument("--python", default="3.12", help="the Python version of the GPU machine (default: 3.12)")
    parser.add_argument("--out", type=Path, default=Path(".gpu-kit"), help="the folder to write (default: .gpu-kit)")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="NAME", help="pack this one too")
    arguments = parser.parse_args()
    pins = [pin for pin in pinned([*ROOTS, *arguments.more], PRESENT) if not pin.startswith("headmix==")]
    shutil.rmtree(arguments.out, ignore_errors=True)
    wheels = arguments.out / "wheels"
    wheels.mkdir(parents=True)
    download(pins, arguments.python, wheels)
    pip("wheel", "--no-deps", "--wheel-dir", str(wheels), ".")
    shutil.copy(Path(__file__).with_name("run.sh"), arguments.out)
    size = sum(file.stat().st_size for file in wheels.iterdir()) / 2**20
    print(f"{arguments.out}: {len(pins) + 1} wheels, {size:.0f} MiB. On the GPU machine: bash {arguments.out}/run.sh")


def pinned(roots: Iterable[str], present: Iterable[str]) -> list[str]:
    """Return `name==version`, as in this environment, of everything the roots need and `present` does not have."""
    there = {canonicalize_name(name) for name in present}
    found: dict[str, str] = {}
    open_ends = [Requirement(root) for root in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while open_ends:
        requirement = open_ends.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in there or (name, extras) in done:
            continue
        done.add((name, extras))
        found[name] = distribution(name).version
        open_ends += needs(name, extras)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def needs(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield a distribution's dependencies with these extras, except those only for other platforms."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if requirement.marker is None or any(requirement.marker.evaluate(one) for one in wanted):
            try:
                distribution(requirement.name)
            except PackageNotFoundError:
                continue  # for example a backport for older Pythons
            yield requirement


def download(pins: Iterable[str], python: str, folder: Path) -> None:
    """Download the wheels for another Python.

    Raises:
        subprocess.CalledProcessError: a wheel is not available.
    """
    abi = f"cp{python.replace('.', '')}"
    where = [f"--platform={platform}" for platform in PLATFORMS] + [f"--abi={name}" for name in (abi, "abi3", "none")]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *where]
    pip("download", *options, "--dest", str(folder), *pins)


def pip(*arguments: str) -> None:
    """Run this environment's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
