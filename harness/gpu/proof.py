"""Everything that can only be tested on a GPU, stage by stage: `python -m harness.gpu.proof` (`make gpu-proof`).

Each stage is its own process with a time limit, so one that fails or hangs does not affect the others. Its output
goes to a file; the JSON it prints last becomes part of the proof's own last line.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRAINING_TESTS = ("tests/adapters/train", "tests/adapters/inject")
"""Tests of training, which is on the GPU wherever there is one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A command (arguments to Python) and its time limit in seconds; `threads` is per process, None for the default."""

    name: str
    command: tuple[str, ...]
    seconds: int
    json_line: bool = True
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A stage's result. `status` is its exit status, or None if it timed out."""

    name: str
    status: int | None
    seconds: float
    figures: object
    tail: str


def stages() -> list[Stage]:
    """Return the stages in order."""
    side_by_side = ("-n", "6") if importlib.util.find_spec("xdist") else ()
    alone = ("-p", "no:cacheprovider", "-p", "no:benchmark")
    tests = ("-m", "pytest", "-vv", "--timeout", "120", *alone, *side_by_side)
    return [
        Stage("tests", (*tests, "tests/gpu"), 150, json_line=False, threads=2),
        Stage("decode", ("-m", "benchmarks.cuda", "--skip-peft"), 120),
        Stage("sampler", ("-m", "benchmarks.sampler", "--device", "cuda"), 60),
        Stage("http", ("-m", "benchmarks.gpu_http"), 150),
        Stage("forms", ("-m", "harness.gpu.forms"), 200),
        Stage("training", ("-m", "harness.gpu.training"), 150),
        Stage("training-tests", (*tests, *TRAINING_TESTS), 150, json_line=False, threads=2),
        Stage("peft", ("-m", "benchmarks.cuda", "--shape", "1b"), 90),
    ]


def run_stage(stage: Stage, folder: Path) -> Outcome:
    """Run a stage with its output in `folder`."""
    began = time.monotonic()
    log = folder / f"{stage.name}.txt"
    status: int | None
    with log.open("w", encoding="utf-8") as file:
        try:
            command = [sys.executable, *stage.command]
            environment = os.environ | {"HEADMIX_DEVICE": "cuda", "PYTHONUNBUFFERED": "1"}
            if stage.threads is not None:
                environment["OMP_NUM_THREADS"] = str(stage.threads)
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, timeout=stage.seconds, check=False
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    figures = last_json(lines) if stage.json_line else None
    return Outcome(stage.name, status, time.monotonic() - began, figures, "\n".join(lines[-12:]))


def last_json(lines: Sequence[str]) -> object:
    """Return the last line that is a JSON object, or None."""
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def summary(outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    """Return the proof's last line: each stage's status, seconds and figures."""
    return {
        each.name: {"status": each.status, "seconds": round(each.seconds, 1), "figures": each.figures}
        for each in outcomes
    }


def main() -> int:
    """Run the requested stages and print their results."""
    parser = argparse.ArgumentParser(prog="harness.gpu.proof", description="Run what only a GPU can show.")
    names = [stage.name for stage in stages()]
    parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"which stages to run, of {', '.join(names)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu-proof"), help="where the stages' output goes")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(names):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for stage in stages():
        if not arguments.stages or stage.name in arguments.stages:
            outcome = run_stage(stage, arguments.out)
            outcomes.append(outcome)
            title = f"== {outcome.name}: exit status {outcome.status}, {outcome.seconds:.0f} s"
            print(f"{title}\n{outcome.tail}", flush=True)
    print(json.dumps(summary(outcomes)))
    return 0 if all(each.status == 0 for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
