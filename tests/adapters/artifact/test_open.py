"""Opening reads only the header, and the package does not load torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from headmix_adapters.artifact import ArtifactError, Limits, open_artifact


def test_opening_does_not_look_at_values(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, tiny_base_shape(), scale=0.0)
    assert open_artifact(path).layers == (0, 1)


def test_the_header_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, tiny_base_shape(), training={"note": "x" * 5000})
    with pytest.raises(ArtifactError, match="more than the limit of 4096"):
        open_artifact(path, limits=Limits(max_header_bytes=4096))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_artifact(tmp_path / "nothing")


@pytest.mark.parametrize("package", ["artifact", "base", "cli"])
def test_importing_loads_no_torch(package: str) -> None:
    program = (
        f"import headmix_adapters.{package}, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
