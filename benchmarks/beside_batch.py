"""What a running batch costs the requests beside it: latencies while a batch of completions runs, next to none.

One server answers the same requests twice, at a steady pace: alone, and while a batch with more lines than it can
finish runs. Run it on a quiet machine. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from harness.machine import describe_machine
from harness.percentile import milliseconds
from harness.server.batch_rig import URL, batch_line
from harness.server.running_server import running_server
from headmix_adapters.base import resolve_base

COMPLETIONS = "/v1/completions"
TARGET = 1.2
"""The most that the 99th percentile may grow."""

LINES = 20_000
GAP_SECONDS = 0.2
START_SECONDS = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure with and without a batch, and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=32, help="per completion, of requests and lines alike")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        alone, beside, lines = measure(given.base, Path(folder), given.requests, given.tokens)
    found = {"alone": milliseconds(alone), "beside": milliseconds(beside)}
    for name, one in found.items():
        print(f"{name:>6}: p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms")
    ratio = round(found["beside"]["p99"] / found["alone"]["p99"], 3)
    print(f"p99 {ratio:.2f} times that without a batch; target {TARGET}; {lines:.2f} lines per second beside it")
    print(
        json.dumps(
            {"machine": describe_machine(), "milliseconds": found, "p99_ratio": ratio, "lines_per_second": lines}
        )
    )
    return 0


def measure(base: str, folder: Path, requests: int, tokens: int) -> tuple[list[float], list[float], float]:
    """Return the seconds of each request alone and beside a batch, and the batch's lines per second meanwhile."""
    model = resolve_base(base).name
    with (
        running_server(folder, base=Path(base), data_dir=folder / "data", runner="torch", keys="off") as server,
        httpx2.Client(base_url=server.base_url, timeout=120) as client,
    ):
        body = {"model": model, "prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0}

        def ask() -> float:
            began = time.perf_counter()
            client.post(COMPLETIONS, json=body).raise_for_status()
            return time.perf_counter() - began

        steadily(ask, 5)  # warm
        alone = steadily(ask, requests)
        batch = start_batch(client, body)
        wait_for_lines(client)
        first, began = answered(client), time.perf_counter()
        beside = steadily(ask, requests)
        rate = (answered(client) - first) / (time.perf_counter() - began)
        if client.get(f"{URL}/{batch}").json()["status"] != "in_progress":
            raise RuntimeError("the batch ended before the requests")
        client.post(f"{URL}/{batch}/cancel").raise_for_status()
        return alone, beside, round(rate, 2)


def steadily(ask: Callable[[], float], requests: int, sleep: Callable[[float], None] = time.sleep) -> list[float]:
    """Ask again and again, with a gap between the requests in which a batch advances."""
    seconds = []
    for _ in range(requests):
        seconds.append(ask())
        sleep(GAP_SECONDS)
    return seconds


def start_batch(client: httpx2.Client, body: dict[str, object]) -> str:
    """Create a batch of different prompts."""
    lines = (
        batch_line(str(n), {**body, "prompt": f"Story {n}: once upon a time"}, url=COMPLETIONS) for n in range(LINES)
    )
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", text)}).raise_for_status()
    made = client.post(URL, json={"input_file_id": file.json()["id"], "endpoint": COMPLETIONS}).raise_for_status()
    return str(made.json()["id"])


def wait_for_lines(client: httpx2.Client) -> None:
    """Return once lines are answered."""
    end = time.monotonic() + START_SECONDS
    while not answered(client):
        if time.monotonic() > end:
            raise TimeoutError("the batch does not begin")
        time.sleep(0.5)


def answered(client: httpx2.Client) -> int:
    """Return how many lines the server has answered, whether or not they are stored."""
    page = client.get("/metrics").text
    name = "headmix_batch_lines_total{"
    return sum(int(float(text.rsplit(" ", 1)[1])) for text in page.splitlines() if text.startswith(name))


if __name__ == "__main__":
    raise SystemExit(main())
