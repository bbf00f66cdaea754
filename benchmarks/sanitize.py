"""The native kernels under AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`, or
`python -m benchmarks.sanitize tests/server/kernels/attention/test_torch_sdpa.py`.

Builds the kernels into build/sanitize with a wrapper around the compiler, so that the product's
own build code runs unchanged, then runs the tests that reach them. The first fault ends the process: undefined
behaviour is reported on standard error immediately, a memory error at the end.
Tensors come from torch's allocator, which the sanitizer replaces, so a kernel that reads or writes one byte beyond a
tensor is caught. Memory that headmix reserves itself (slots, the key/value cache) is one mapping to the sanitizer.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headmix_server.kernels.native.build import find_compiler

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "sanitize"
FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TESTS = (
    "tests/server/kernels",
    "tests/server/device",
    "tests/server/models",
    "tests/server/test_exactness.py",
    "tests/server/test_fast_paths.py",
)
PYTEST = ("--capture=sys", "-o", "timeout=1800", "--hypothesis-profile=ci", "-m", "not drift")
"""Everything is many times slower; the profile has no deadlines and uses the same examples in every run."""

REPORTED = 99
"""The exit status of a process that a sanitizer ended."""

SUPPRESSIONS = {
    "detect_leaks=0": "Python and torch keep memory to the end of the process; leaks cannot be told from that",
}
"""What AddressSanitizer does not check, with the reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, run the tests and return pytest's status, or 1 if a sanitizer reported a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sanitize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", nargs="*", help="what pytest is given; without any, every test that computes")
    options, pytest_options = parser.parse_known_args(arguments)
    compiler = find_compiler()
    if compiler is None:
        print("no C++ compiler: nothing to sanitize", file=sys.stderr)
        return 1
    reports = WORK / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    environment = {**os.environ, **sanitized_environment(compiler, WORK, reports)}
    build = [sys.executable, "-m", "headmix_server.kernels.native"]
    subprocess.run(build, env={**environment, "LD_PRELOAD": ""}, check=True, cwd=ROOT)
    tests = options.tests or list(TESTS)
    command = [sys.executable, "-m", "pytest", *PYTEST, *pytest_options, *tests]
    status = subprocess.run(command, env=environment, check=False, cwd=ROOT).returncode
    found = sorted(reports.iterdir())
    for report in found:
        print(f"\n== {report.name}\n{report.read_text(errors='replace')}")
    print("clean" if status == 0 and not found else f"not clean: pytest ended with {status}, {len(found)} reports")
    return 1 if found else status


def sanitized_environment(compiler: str, folder: Path, reports: Path) -> dict[str, str]:
    """Return the variables with which the product's build makes a sanitized library and Python can load it.

    `folder` keeps the build; memory errors are written to `reports`.
    """
    return {
        "CXX": str(_write_compiler(compiler, folder)),
        "XDG_CACHE_HOME": str(folder),  # the tests' servers drop HEADMIX_CACHE
        "LD_PRELOAD": " ".join(_runtime(compiler, name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")),
        "ASAN_OPTIONS": ":".join([*SUPPRESSIONS, f"exitcode={REPORTED}", f"log_path={reports / 'report'}"]),
        "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={REPORTED}",
        "HEADMIX_DEVICE": "cpu",
    }


def _write_compiler(compiler: str, folder: Path) -> Path:
    """Write a compiler that adds the sanitizers' flags after all others, so that they win."""
    wrapper = folder / "sanitizing-compiler"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(compiler)} "$@" {" ".join(FLAGS)}\n', encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper


def _runtime(compiler: str, name: str) -> str:
    """Return a runtime library's path; Python itself is not sanitized, so it must be loaded before Python starts."""
    command = [compiler, f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
