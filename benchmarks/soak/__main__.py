"""`python -m benchmarks.soak`: walk for as long as asked, tell how far it is, and end with one line of JSON."""

import argparse
import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from benchmarks.soak.memory import slope_per_hour
from benchmarks.soak.oracle import Oracle
from benchmarks.soak.walk import Walk, WalkFailedError
from benchmarks.soak.world import Sizes, World
from headmix_adapters.base import resolve_base
from tests.support.families import FAMILIES

PROGRESS_SECONDS = 15.0
WARM = 0.25
"""The share of a walk after which memory should not grow any more: arenas and allocators have seen their largest."""


def main() -> int:
    """Walk in this process; exits 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--operations", type=int, default=0, help="end after so many, whatever the time")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="llama")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # failures are its work
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = walk(arguments, Path(folder))
    print(json.dumps({"soak": {"seed": arguments.seed, "family": arguments.family} | result}))
    return 1 if result["mismatches"] else 0


def walk(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Walk in process and return what the JSON line tells of it."""
    FAMILIES[arguments.family].make(folder / "base")
    base = resolve_base(str(folder / "base"))
    world = World(base, folder, Sizes(loader_threads=2))
    oracle = Oracle(base.folder, world.limits.eos_ids)
    journey = Walk(arguments.seed, world, oracle, num_contents=60)
    progress = _Progress(arguments.minutes * 60, arguments.operations, oracle)
    wrong = 0
    try:
        journey.run(progress.goes_on)
    except WalkFailedError as error:
        wrong = 1
        print(error, file=sys.stderr)
    finally:
        world.close()
    report = journey.report
    warm = report.memory[int(len(report.memory) * WARM) :]
    return {
        "operations": report.operations.total(),
        "requests": report.requests,
        "cancelled": report.cancelled,
        "preemptions": report.preemptions,
        "evictions": dict(report.evictions),
        "mismatches": wrong,
        **asdict(oracle.tally),
        "leases": sum(world.engine.scheduler.tiers.slots.lease_counts().values()),
        "memory_mib": [round(mib) for _, mib in (warm[:1] + warm[-1:])],
        "memory_mib_per_hour": round(slope_per_hour(warm), 1),
        "objects": [counts.total() for counts in (report.objects[:1] + report.objects[-1:])],
    }


class _Progress:
    """Says when a walk has gone far enough, and now and then how far it is."""

    def __init__(self, seconds: float, operations: int, oracle: Oracle) -> None:
        self._end = time.monotonic() + seconds
        self._operations = operations
        self._oracle = oracle
        self._told = time.monotonic()

    def goes_on(self, done: int) -> bool:
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            tally = self._oracle.tally
            left = max(0.0, self._end - now) / 60
            text = f"{done} operations, {tally.judged} answers right, {tally.forgiven} ties, {left:.1f} minutes left"
            print(text, file=sys.stderr)
        return now < self._end and (not self._operations or done < self._operations)


if __name__ == "__main__":
    sys.exit(main())
