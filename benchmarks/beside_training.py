"""What a running fine-tuning job costs the requests beside it: latencies with `--train here` and `idle`, next to none.

Each server answers the same bursts of completions, with pauses in which an idle worker goes on training; the job has
begun its steps before the first. Run it on a quiet machine. The last line is JSON.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from harness.machine import describe_machine
from harness.percentile import percentile
from harness.server.queued_job import checked_request
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.database import connect_database
from headmix_server.files.open import open_files
from headmix_server.fine_tuning.progress import read_progress
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs

MODES = ("off", "here", "idle")
BURST, PAUSE_SECONDS = 5, 2.5
TARGETS = {"here": 1.3, "idle": 1.1}
"""The most that the 99th percentile may grow."""

START_SECONDS = 600.0
LABELS = ("up", "down")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all modes and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=16, help="per completion")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    given = parser.parse_args(arguments)
    found: dict[str, dict[str, float]] = {}
    for mode in given.modes:
        with tempfile.TemporaryDirectory() as folder:
            found[mode] = figures(measure(mode, given.base, Path(folder), given.requests, given.tokens))
        print(f"{mode:>5}: p50 {found[mode]['p50']:.1f} ms, p99 {found[mode]['p99']:.1f} ms")
    ratios = compare(found)
    for mode, ratio in ratios.items():
        print(f"{mode:>5}: p99 {ratio:.2f} times that of a server that does not train; target {TARGETS[mode]}")
    result = {"machine": describe_machine(), "milliseconds": found, "p99_ratio": ratios}
    print(json.dumps(result))
    return 0


def measure(mode: str, base: str, folder: Path, requests: int, tokens: int) -> list[float]:
    """Return the seconds of each request to a server in this mode, with a job that trains unless it is `off`."""
    with running_server(
        folder, base=Path(base), data_dir=folder / "data", runner="torch", keys="off", train=mode, log_format="json"
    ) as server:
        ask = asking(server, base, tokens)
        for _ in range(3):
            ask()  # warm
        if mode == "off":
            return bursts(ask, requests)
        jobs, job = queue_job(folder, base)
        wait_for_steps(jobs, job)
        seconds = bursts(ask, requests)
        if jobs.get(job.tenant, job.id).has_ended:
            raise RuntimeError("the job ended before the requests: the figures are not of a server that trains")
        return seconds


def bursts(ask: Callable[[], float], requests: int, sleep: Callable[[float], None] = time.sleep) -> list[float]:
    """Ask in bursts with pauses between them."""
    seconds = []
    for number in range(requests):
        if number % BURST == 0:
            sleep(PAUSE_SECONDS)
        seconds.append(ask())
    return seconds


def asking(server: RunningServer, base: str, tokens: int) -> Callable[[], float]:
    """Return a function that asks for a completion and returns how long that took."""
    client = httpx2.Client(base_url=server.base_url, timeout=120)
    body = {"model": resolve_base(base).name, "prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0}

    def ask() -> float:
        began = time.perf_counter()
        client.post("/v1/completions", json=body).raise_for_status()
        return time.perf_counter() - began

    return ask


def queue_job(folder: Path, base: str) -> tuple[Jobs, Job]:
    """Queue a job that trains for longer than the measurement takes."""
    rng, data = random.Random(0), folder / "rows.jsonl"
    rows = [{"text": f"number {rng.randrange(10**6)} goes {label}", "label": label} for label in LABELS * 20]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    database = connect_database(folder / "data" / "headmix.db")
    files = open_files(Settings(data_dir=folder / "data"), database, folder / "data" / "files")
    fingerprint = resolve_base(base).shape.fingerprint
    request = checked_request(files, data, fingerprint=fingerprint, labels=LABELS, epochs=1000)
    jobs = Jobs(database)
    return jobs, jobs.create("default", "fine_tuning", request.json(), base=fingerprint)


def wait_for_steps(jobs: Jobs, job: Job) -> None:
    """Return once the job has begun its steps."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = jobs.get(job.tenant, job.id)
        if found.has_ended:
            raise RuntimeError(f"the job has ended: {found.error}")
        if read_progress(found.progress).step:
            return
        time.sleep(0.5)
    raise TimeoutError("the job does not begin")


def figures(seconds: Sequence[float]) -> dict[str, float]:
    """Return the percentiles in milliseconds."""
    return {f"p{percent}": round(percentile(seconds, percent) * 1000, 2) for percent in (50, 95, 99)}


def compare(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return how many times as long the slowest requests take as without training."""
    if "off" not in found:
        return {}
    return {mode: round(found[mode]["p99"] / found["off"]["p99"], 3) for mode in found if mode != "off"}


if __name__ == "__main__":
    raise SystemExit(main())
