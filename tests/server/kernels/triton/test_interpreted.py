"""Runs the tests of the kernels in a process whose Triton interprets them on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_kernels_agree_with_the_reference_under_tritons_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not tested here")
    folder = Path(__file__).parent / "interpreted"
    command = [sys.executable, "-m", "pytest", str(folder), "-p", "no:xdist", "-p", "no:cacheprovider"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout
