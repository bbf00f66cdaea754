"""What a running fine-tuning job costs the requests beside it: latencies with `--train here` and with `idle`.

One server of each mode answers bursts of completions, with pauses in which an idle worker trains. Blocks of bursts
beside the job take turns with blocks in which the worker's processes are stopped, so the machine's other load meets
both alike. Run it on a quiet machine. The last line is JSON.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import psutil  # type: ignore[import-untyped]

from harness.machine import describe_machine
from harness.percentile import milliseconds
from harness.server.queued_job import checked_request
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.database import connect_database
from headmix_server.files.open import open_files
from headmix_server.fine_tuning.progress import read_progress
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs

MODES = ("here", "idle")
BURST, PAUSE_SECONDS = 5, 2.5
BLOCK = 30
"""Requests of a block: it lasts less than half a minute, so the stopped worker keeps its job."""

TARGETS = {"here": 1.3, "idle": 1.1}
"""The most that the 99th percentile may grow."""

START_SECONDS = 600.0
LABELS = ("up", "down")
_WORKER = "headmix_server.training.beside"

Measured = tuple[list[float], list[float]]
"""The seconds of each request alone, and of each beside the job."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all modes and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--requests", type=int, default=300, help="beside the job, and as many alone")
    parser.add_argument("--tokens", type=int, default=16, help="per completion")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    given = parser.parse_args(arguments)
    found, ratios = {}, {}
    for mode in given.modes:
        with tempfile.TemporaryDirectory() as folder:
            alone, beside = measure(mode, given.base, Path(folder), given.requests, given.tokens)
        found[mode] = {"alone": milliseconds(alone), "beside": milliseconds(beside)}
        ratios[mode] = round(found[mode]["beside"]["p99"] / found[mode]["alone"]["p99"], 3)
        for name, one in found[mode].items():
            print(f"{mode:>5}, {name:>6}: p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms")
        print(f"{mode:>5}: p99 {ratios[mode]:.2f} times that without training; target {TARGETS[mode]}")
    print(json.dumps({"machine": describe_machine(), "milliseconds": found, "p99_ratio": ratios}))
    return 0


def measure(mode: str, base: str, folder: Path, requests: int, tokens: int) -> Measured:
    """Return the latencies of a server in this mode."""
    with running_server(
        folder, base=Path(base), data_dir=folder / "data", runner="torch", keys="off", train=mode, log_format="json"
    ) as server:
        ask = asking(server, base, tokens)
        for _ in range(3):
            ask()  # warm
        jobs, job = queue_job(folder, base)
        wait_for_steps(jobs, job)
        measured = in_turns(ask, requests, lambda: stopped(training_processes(server)))
        found = jobs.get(job.tenant, job.id)
        if found.state != "running":
            raise RuntimeError(f"the job is {found.state}: the figures are not of a server that trains")
        return measured


def in_turns(
    ask: Callable[[], float],
    requests: int,
    without_training: Callable[[], AbstractContextManager[None]],
    sleep: Callable[[float], None] = time.sleep,
) -> Measured:
    """Ask this often beside the job and as often alone, block by block; the one that begins alternates."""
    alone: list[float] = []
    beside: list[float] = []
    for number, begun in enumerate(range(0, requests, BLOCK)):
        count = min(BLOCK, requests - begun)
        for turn in range(2):
            if turn == number % 2:
                beside += bursts(ask, count, sleep)
            else:
                with without_training():
                    alone += bursts(ask, count, sleep)
    return alone, beside


def bursts(ask: Callable[[], float], requests: int, sleep: Callable[[float], None]) -> list[float]:
    """Ask in bursts with pauses before them."""
    seconds = []
    for number in range(requests):
        if number % BURST == 0:
            sleep(PAUSE_SECONDS)
        seconds.append(ask())
    return seconds


def training_processes(server: RunningServer) -> list[psutil.Process]:
    """Return the server's worker and the processes it has started, a process before its children.

    Raises:
        RuntimeError: the server has none.
    """
    for process in psutil.Process(server.process.pid).children(recursive=True):
        if _WORKER in process.cmdline():
            return [process, *process.children(recursive=True)]
    raise RuntimeError("the server has no worker")


@contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop processes for a while. One that was stopped before remains so: an idle worker has its training wait."""
    running = []
    try:
        for process in processes:
            if process.status() != psutil.STATUS_STOPPED:
                process.suspend()
                running.append(process)
        yield
    finally:
        for process in reversed(running):
            process.resume()


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


if __name__ == "__main__":
    raise SystemExit(main())
