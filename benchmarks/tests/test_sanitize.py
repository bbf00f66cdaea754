"""`make sanitize` detects faults: its environment ends a process at a planted fault, with a report."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.sanitize import REPORTED, sanitized_environment
from headmix_server.kernels.native.build import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")

SOURCE = """
extern "C" float element(const float* numbers, int place) { return numbers[place]; }
extern "C" int next(int number) { return number + 1; }
"""
USE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.element.restype = ctypes.c_float
print(library.element((ctypes.c_float * 4096)(), int(sys.argv[2])), library.next(int(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of `make sanitize`, with a library that has faults built in."""
    compiler = find_compiler()
    assert compiler is not None
    folder = tmp_path_factory.mktemp("sanitize")
    (folder / "reports").mkdir()
    environment = os.environ | sanitized_environment(compiler, folder, folder / "reports")
    (folder / "planted.cpp").write_text(SOURCE)
    build = [environment["CXX"], "-shared", "-fPIC", "planted.cpp", "-o", "planted.so"]
    subprocess.run(build, check=True, cwd=folder, env=environment | {"LD_PRELOAD": ""})
    return environment


def run(environment: Mapping[str, str], place: int, number: int) -> tuple[int, str, str]:
    """Use the library and return the process's status, its output and the sanitizers' reports."""
    folder = Path(environment["XDG_CACHE_HOME"])
    for report in (folder / "reports").iterdir():
        report.unlink()  # from another test
    command = [sys.executable, "-S", "-c", USE, str(folder / "planted.so"), str(place), str(number)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    reports = [report.read_text() for report in (folder / "reports").iterdir()]
    return done.returncode, done.stdout, done.stderr + "".join(reports)


def test_sound_native_code_is_left_alone(environment: Mapping[str, str]) -> None:
    assert run(environment, 4095, 1) == (0, "0.0 2\n", "")


def test_undefined_behaviour_ends_the_process_with_a_report(environment: Mapping[str, str]) -> None:
    status, _, report = run(environment, 0, 2**31 - 1)
    assert status == REPORTED
    assert "signed integer overflow" in report


def test_a_read_beyond_an_allocation_ends_the_process_with_a_report(environment: Mapping[str, str]) -> None:
    status, _, report = run(environment, 4096, 1)
    assert status == REPORTED
    assert "heap-buffer-overflow" in report
