"""`python -m harness.soak`: walk for the requested time, report progress, and end with one line of JSON."""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from harness.bases.families import FAMILIES
from harness.memory import slope_per_hour
from harness.soak.environment import Environment, Sizes
from harness.soak.http.walk import HttpWalk, served
from harness.soak.oracle import Oracle
from harness.soak.tracked_request import WrongAnswerError
from harness.soak.walk import Walk, WalkFailedError
from headmix_adapters.base import resolve_base

PROGRESS_SECONDS = 15.0
KILL_SECONDS = 45.0
WARM = 0.25
"""The share of a walk after which memory should no longer grow: arenas and allocators have reached their full size."""


def main() -> int:
    """Walk in this process, then over HTTP; exits 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="for both levels together")
    parser.add_argument("--operations", type=int, default=0, help="end a level after so many, whatever the time")
    parser.add_argument("--level", choices=("engine", "http", "both"), default="both")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="llama", help="of the base, in process")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # failures are expected
    torch.set_num_threads(1)
    levels = {"engine": walk_in_process, "http": walk_over_http}
    chosen = list(levels) if arguments.level == "both" else [arguments.level]
    results: dict[str, Any] = {}
    for level in chosen:
        with tempfile.TemporaryDirectory() as folder:
            progress = _Progress(level, arguments.minutes * 60 / len(chosen), arguments.operations)
            results[level] = levels[level](arguments, Path(folder), progress)
    mismatches = sum(result["mismatches"] for result in results.values())
    print(json.dumps({"soak": {"seed": arguments.seed, "mismatches": mismatches} | results}))
    return 1 if mismatches else 0


def walk_in_process(arguments: argparse.Namespace, folder: Path, progress: "_Progress") -> dict[str, Any]:
    """Walk in this process and return its part of the JSON line."""
    FAMILIES[arguments.family].make(folder / "base")
    base = resolve_base(str(folder / "base"))
    environment = Environment(base, folder, Sizes(loader_threads=2))
    oracle = progress.oracle = Oracle(base.folder, environment.limits.eos_ids)
    walk = Walk(arguments.seed, environment, oracle, num_contents=60)
    wrong = _mismatches(lambda: walk.run(progress.goes_on))
    environment.close()
    report = walk.report
    return {
        "family": arguments.family,
        "operations": report.operations.total(),
        "requests": report.requests,
        "cancelled": report.cancelled,
        "preemptions": report.preemptions,
        "evictions": dict(report.evictions),
        "prefix_hits": report.prefix_hits,
        "mismatches": wrong,
        **asdict(oracle.tally),
        "leases": sum(environment.engine.scheduler.tiers.slots.lease_counts().values()),
        "memory": _growth(report.memory),
        "objects": [counts.total() for counts in (report.objects[:1] + report.objects[-1:])],
    }


def walk_over_http(arguments: argparse.Namespace, folder: Path, progress: "_Progress") -> dict[str, Any]:
    """Walk over HTTP and return its part of the JSON line."""
    with served(folder, arguments.seed) as environment:
        progress.oracle = environment.oracle
        walk = HttpWalk(environment)
        wrong = _mismatches(lambda: asyncio.run(walk.run(progress.goes_on, kill_every=KILL_SECONDS)))
        status = environment.server.stop()
    report = environment.report
    return {
        "operations": report.operations.total(),
        "engine_kills": report.kills,
        "refused_meanwhile": report.refused,
        "mismatches": wrong,
        **asdict(environment.oracle.tally),
        "exit_status": status,
        "memory_of_api": _growth(report.api_memory),
    }


def _mismatches(walk: Callable[[], object]) -> int:
    """Walk; print what was wrong and return how many faults that is."""
    wrong: list[BaseException] = []
    try:
        walk()
    except* (WalkFailedError, WrongAnswerError) as group:
        wrong.extend(group.exceptions)
    for error in wrong:
        print(error, file=sys.stderr)
    return len(wrong)


def _growth(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Describe memory over a walk, once it has warmed up."""
    warm = samples[int(len(samples) * WARM) :]
    if not warm:
        return {}
    return {
        "start_mib": round(warm[0][1]),
        "end_mib": round(warm[-1][1]),
        "mib_per_hour": round(slope_per_hour(warm), 1),
    }


class _Progress:
    """Decides when a walk has gone far enough, and reports progress."""

    def __init__(self, level: str, seconds: float, operations: int) -> None:
        self.oracle: Oracle | None = None
        self._level = level
        self._seconds = seconds
        self._end = 0.0
        self._operations = operations
        self._told = time.monotonic()

    def goes_on(self, done: int) -> bool:
        """Return whether to go on; time counts from the first call."""
        now = time.monotonic()
        self._end = self._end or now + self._seconds
        if now - self._told > PROGRESS_SECONDS and self.oracle is not None:
            self._told = now
            tally = self.oracle.tally
            left = max(0.0, self._end - now) / 60
            said = f"{self._level}: {done} operations, {tally.judged} answers right, {tally.forgiven} ties"
            print(f"{said}, {left:.1f} minutes left", file=sys.stderr)
        return now < self._end and (not self._operations or done < self._operations)


if __name__ == "__main__":
    sys.exit(main())
