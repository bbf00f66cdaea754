"""How many small faults the tests find: `make mutation`, or `python -m benchmarks.mutation engine --mutants 240`.

mutmut changes one operator, number or argument of a package at a time and runs the tests that reach the changed
function; a mutant survives if no test fails on it. A random sample, fixed by its seed, represents the whole. Error
messages and log lines are not mutated. Needs the environment that `make mutation` creates; the last line of the output
is JSON. Inspect survivors with `mutmut show NAME` in the folder that is printed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "mutation"
SOURCES = ("server/headmix_server", "adapters/headmix_adapters", "client/headmix", "benchmarks", "tests")
STATUS: Mapping[int | None, str] = {
    **dict.fromkeys((1, 3), "killed"),
    **dict.fromkeys((5, 33), "no tests"),
    **dict.fromkeys((36, -24), "timeout"),
    0: "survived",
}
"""The meaning of mutmut's exit codes; a mutant that runs far longer than its tests do counts as found."""


@dataclass(frozen=True, slots=True)
class Target:
    """A package of the server and the tests to run for it, without slow scenarios and external services."""

    package: str
    tests: Sequence[str]
    left_out: Sequence[str] = ()
    only: Sequence[str] = ("*",)


BUCKET = ("bytes/bucket", "bytes/bucket_store", "bytes/bucket_url", "bytes/cache")
"""Modules of the catalog whose tests need an S3 server."""

TARGETS = {
    "engine": Target(
        "headmix_server/engine",
        (
            "tests/server/engine",
            "--ignore=tests/server/engine/test_hostile_neighbour.py",
            "--ignore=tests/server/engine/test_fair_service.py",
            "-k",
            "not 500_cold_adapters and not TestEngine",
        ),
        left_out=("fake_runner", "server", "step_thread", "report"),  # no accounting: a stand-in, a socket, a thread
    ),
    "tenancy": Target("headmix_server/tenancy", ("tests/server/tenancy", "-k", "not postgresql and not redis")),
    "catalog": Target(
        "headmix_server/catalog",
        left_out=BUCKET,
        tests=(
            "tests/server/catalog",
            "-k",
            "not postgresql and not bucket and not kill and not crash and not full",
            "--ignore=tests/server/catalog/bytes/test_bucket_store.py",
            "--ignore=tests/server/catalog/test_many_adapters.py",
        ),
    ),
    "bucket": Target(
        "headmix_server/catalog",
        only=BUCKET,
        tests=("tests/server/catalog/bytes/test_bucket_store.py",),
    ),
}


def main() -> None:
    """Make the mutants of one target, test a sample of them and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--mutants", type=int, default=240, help="size of the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="stop after so long; what was not tested is left out"
    )
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    target, folder = TARGETS[asked.target], WORK / asked.target
    began = time.monotonic()
    _lay_out(folder, target)
    # The first run creates all mutants and finds which tests reach which function; no mutant has this name.
    _mutmut(folder, asked.processes, ["none"], 60 * asked.minutes)
    names = sorted(_exit_codes(folder))
    sample = random.Random(asked.seed).sample(names, min(asked.mutants, len(names)))
    _mutmut(folder, asked.processes, sample, 60 * asked.minutes - (time.monotonic() - began))
    codes = _exit_codes(folder)
    results = {name: STATUS.get(codes[name], "suspicious") for name in sample if codes[name] is not None}
    if not results:
        sys.exit(f"no mutant was tested; {folder / 'mutmut.log'} says why")
    for name in sorted(name for name, status in results.items() if status in ("survived", "no tests")):
        sys.stdout.write(f"{results[name]:10} {name}\n")
    sys.stdout.write(f"look at one: cd {folder} && mutmut show NAME\n")
    counts = Counter(results.values())
    figures = {
        "mutants": len(names),
        "tested": len(results),
        **counts,
        "minutes": round((time.monotonic() - began) / 60),
    }
    print(json.dumps({"benchmark": "mutation", "target": asked.target, "seed": asked.seed, **figures}))


def _lay_out(folder: Path, target: Target) -> None:
    """Copy the packages next to each other, as mutmut requires, with its settings and pytest's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in SOURCES:
        shutil.copytree(ROOT / source, folder / Path(source).name, ignore=shutil.ignore_patterns("__pycache__"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    settings = {
        "mutmut": {
            "source_paths": ["headmix_server"],
            "only_mutate": [f"{target.package}/{name}.py" for name in target.only],
            "do_not_mutate": [f"{target.package}/{name}.py" for name in target.left_out],
            "do_not_mutate_patterns": [r"^\s*raise ", r"^\s*f?\"", r"log(ger)?\.", r"check_integrity"],
            "also_copy": ["headmix_adapters", "headmix", "benchmarks", "tests"],
            "pytest_add_cli_args": [
                "-n",
                "0",
                "-p",
                "no:cacheprovider",
                "-x",
                "-q",
                "--hypothesis-profile=ci",
                "--timeout=600",
            ],
            "pytest_add_cli_args_test_selection": list(target.tests),
            "timeout_multiplier": 3.0,
            "timeout_constant": 30.0,
            "process_isolation": "forkserver",
            "track_dependencies": False,
            "use_git_change_detection": False,
        },
        "pytest.ini_options": project["tool"]["pytest"]["ini_options"],
    }
    lines = [
        line
        for table, values in settings.items()
        for line in [f"[tool.{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _mutmut(folder: Path, processes: int, names: Sequence[str], seconds: float) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1", "HEADMIX_DEVICE": "cpu"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
    with (folder / "mutmut.log").open("ab") as log:
        run = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            run.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            sys.stdout.write("out of time\n")
            os.killpg(run.pid, signal.SIGTERM)
            run.wait()


def _exit_codes(folder: Path) -> dict[str, int | None]:
    """Return every mutant with the exit code of its tests, None if they did not run."""
    codes: dict[str, int | None] = {}
    for file in (folder / "mutants").rglob("*.py.meta"):
        codes |= json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


if __name__ == "__main__":
    main()
