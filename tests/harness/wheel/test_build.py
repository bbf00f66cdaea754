"""The wheel with kernels serves at full speed where there is no compiler, and everyone who builds it gets its bytes.

Its environment is a real one with the wheel installed by pip, no other headmix and nothing on its PATH. Only the
dependencies are borrowed: installing torch takes minutes, so a .pth file leads to this environment's packages. Its own
.pth files are not read from there, and with them goes the headmix under test.
"""

import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import httpx2
import pytest
from torch_abi_audit import inspect_extension

from harness.bases.families import FAMILIES
from harness.server.running_server import running_server
from harness.wheel.build import ROOT, build_wheel, pack
from headmix_server.kernels.native.build import default_cache_dir, find_compiler
from headmix_server.kernels.native.processor import LEVELS, Level, processor_features

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # two libraries are compiled where the sources have changed
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64" or find_compiler() is None,
        reason="the kernels of a wheel are compiled on Linux for x86-64",
    ),
]
BEST = next((level for level in LEVELS if level.features <= processor_features()), LEVELS[-1])
TESTED = sorted({BEST, LEVELS[-1]}, key=LEVELS.index)
"""Compiling each takes half a minute of a core: this processor's and the lowest; `make wheel` compiles all."""

PLACE = "headmix_server/kernels/native/ahead"
COMPARE = """
import json, sys
import torch
from headmix_server.kernels import row_ops
from headmix_server.kernels.native import loading

features = frozenset(sys.argv[1].split())
loading.processor_features = lambda: features
assert loading.load_native()
x, weight = torch.randn(7, 576), torch.randn(576)
off = (row_ops.native_rms_norm(x, weight, 1e-5) - row_ops.rms_norm(x, weight, 1e-5)).abs().max().item()
print(json.dumps({"lanes": torch.ops.headmix.vector_lanes(), "off": off}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"), default_cache_dir(), levels=TESTED)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def without_a_compiler(python: Path, folder: Path) -> Mapping[str, str]:
    """The variables of a shell that has the environment's programs and no others, and an empty cache."""
    assert shutil.which("c++", path=str(python.parent)) is None
    return {"PATH": str(python.parent), "PYTHONPATH": "", "CXX": "", "XDG_CACHE_HOME": str(folder / "cache")}


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return {info.filename for info in archive.infolist() if not info.is_dir()}


@pytest.mark.skipif(not BEST.features <= processor_features(), reason="this processor is below every level")
def test_it_serves_with_native_kernels_where_there_is_no_compiler(installed: Path, tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path / "llama")
    env = without_a_compiler(installed, tmp_path)
    with running_server(
        tmp_path, base=tmp_path / "llama", runner="torch", threads=1, kv_cache_mib=8, env=env, python=str(installed)
    ) as server:
        body = {"model": "llama", "prompt": "a sparrow", "max_tokens": 4, "ignore_eos": True}
        answer = httpx2.post(f"{server.base_url}/v1/completions", json=body, headers=server.headers, timeout=60)
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 4)
    (kernels,) = server.events("native kernels")
    assert kernels["built"] == "ahead"
    assert Path(str(kernels["library"])).is_relative_to(installed.parents[1])
    taken = {str(event["event"]): event["by"] for name in ("attention", "sampling") for event in server.events(name)}
    assert taken == {"attention": "native", "sampling": "native"}
    assert not (tmp_path / "cache" / "headmix" / "native").exists()


@pytest.mark.parametrize("level", TESTED, ids=lambda level: level.name)
def test_each_level_of_this_processor_computes_what_torch_computes(
    installed: Path, tmp_path: Path, level: Level
) -> None:
    if not level.features <= processor_features():
        pytest.skip("this processor lacks the level")
    command = [str(installed), "-c", COMPARE, " ".join(level.features)]
    env = {"OMP_NUM_THREADS": "1", **without_a_compiler(installed, tmp_path)}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=tmp_path)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["lanes"] == (16 if "avx512f" in level.features else 8)
    assert result["off"] < 1e-5


def test_it_brings_one_library_for_each_level_and_nothing_of_torchs(wheel: Path) -> None:
    assert {name for name in names(wheel) if ".so" in name} == {f"{PLACE}/{level.library}" for level in TESTED}


@pytest.mark.parametrize("level", TESTED, ids=lambda level: level.name)
def test_its_libraries_use_nothing_that_the_lowest_torch_lacks(wheel: Path, tmp_path: Path, level: Level) -> None:
    with ZipFile(wheel) as archive:
        library = Path(archive.extract(f"{PLACE}/{level.library}", tmp_path))
    torch = inspect_extension(library).torch
    assert (torch.stable, torch.unknown_shim_symbols, torch.min_torch_version) == (True, (), "2.10.0")


def test_it_is_for_every_python_on_this_platform_only(wheel: Path) -> None:
    _, _, python, abi, target = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none")
    assert target.startswith("manylinux_")
    assert target.endswith("x86_64")


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    (sdist,) = pack(ROOT, tmp_path / "sdist", {}, "sdist")
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    root = tmp_path / sdist.name.removesuffix(".tar.gz")
    again = build_wheel(tmp_path / "again", default_cache_dir(), root, TESTED)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_without_kernels_it_is_pure_and_has_the_sources_to_compile(wheel: Path, tmp_path: Path) -> None:
    (pure,) = pack(ROOT, tmp_path, {"HEADMIX_WHEEL_KERNELS": ""})
    assert pure.name.endswith("-py3-none-any.whl")
    assert "headmix_server/kernels/native/library.cpp" in names(pure)
    assert {name for name in names(wheel) if ".dist-info/" not in name} - names(pure) == {
        f"{PLACE}/{level.library}" for level in TESTED
    }


def test_a_folder_without_kernels_is_no_wheel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        pack(ROOT, tmp_path / "out", {"HEADMIX_WHEEL_KERNELS": str(tmp_path)})
    assert "no libraries in it" in capsys.readouterr().err
