"""The cost of a registry of 10,000 adapters: `python -m benchmarks.registry`; the last line is JSON.

A real server (both processes, the runner without a model, SQLite and a folder) over loopback: its startup, lists,
look-ups of one adapter, uploads and memory, next to the same server without adapters. Seconds are medians; `_worst` is
the slowest.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from harness.adapters.artifacts import adapter_config, random_artifact
from harness.machine import describe_machine
from harness.memory import resident_mib
from harness.server.large_catalog import TENANT, fill, name_of
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape
from headmix_adapters.presets import PresetName, kernel_mix_sites, preset_ranks
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.database import open_database

ADAPTERS = 10_000
ROUNDS = 50
UPLOADS = 20
PRESET: PresetName = "gpt2-nlg"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = write_fake_base(folder / FAKE_BASE)
        shape = resolve_base(str(base)).shape
        figures = {
            name: measure(folder / name, base, shape, count) for name, count in (("empty", 0), ("full", ADAPTERS))
        }
        figures["full"] |= in_process(folder / "full")
    for key in figures["full"]:
        sys.stdout.write(f"{key:28} {figures['empty'].get(key, ''):>12} {figures['full'][key]:>12}\n")
    print(json.dumps({"benchmark": "registry", "adapters": ADAPTERS, **figures, "machine": describe_machine()}))


def measure(folder: Path, base: Path, shape: BaseShape, count: int) -> dict[str, float]:
    """Return the figures of a server with this many adapters in its catalog."""
    folder.mkdir()
    data = folder / "data"
    data.mkdir()
    engine = open_database(data / "headmix.db")
    fill(engine, count, adapter_config(shape, kernel_mix_sites(preset_ranks(PRESET))), artifacts=data / "artifacts")
    engine.dispose()
    began = time.perf_counter()
    with running_server(folder, base=base, data_dir=data, limit_management_per_minute=0) as server:
        figures = {"start_seconds": round(time.perf_counter() - began, 3)}
        with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
            figures |= ask(client, server, max(count, 1))
            figures |= upload(client, folder, shape)
    return figures


def ask(client: httpx2.Client, server: RunningServer, count: int) -> dict[str, float]:
    """Time the reads; memory is the API process's, before and after all of them."""
    before = resident_mib(server.process.pid)
    middle = name_of(count // 2)
    figures = {
        **timed("list_100", lambda: client.get("/v1/adapters")),
        **timed("list_1000", lambda: client.get("/v1/adapters", params={"limit": 1000})),
        **timed("list_100_middle", lambda: client.get("/v1/adapters", params={"after": middle})),
        **timed("models_all", lambda: client.get("/v1/models")),
        **timed("resolve_over_http", lambda: client.get(f"/v1/models/{middle}")),
    }
    settled = resident_mib(server.process.pid)
    for _ in range(ROUNDS):
        client.get("/v1/models")
    after = resident_mib(server.process.pid)
    return figures | {"memory_mib": round(before, 1), "memory_growth_mib": round(after - settled, 1)}


def upload(client: httpx2.Client, folder: Path, shape: BaseShape) -> dict[str, float]:
    """Time uploads of small artifacts under new names."""
    contents = []
    for seed in range(UPLOADS):
        path = folder / f"{seed}.safetensors"
        random_artifact(path, shape, seed=seed)
        contents.append(path.read_bytes())
    rest = iter(enumerate(contents))

    def push() -> httpx2.Response:
        number, content = next(rest)
        return client.post("/v1/adapters", data={"name": f"new-{number}"}, files={"file": ("a", content)})

    return timed("upload", push, rounds=UPLOADS)


def in_process(folder: Path) -> dict[str, float]:
    """Time the step on every request's path: resolving the name to a version, with its hold."""
    engine = open_database(folder / "data" / "headmix.db")
    library = Library(Catalog(engine), ArtifactStore(folder / "data" / "artifacts"), base="")
    numbers = iter(range(0, ADAPTERS, ADAPTERS // 1000))

    def hold() -> None:
        library.hold(TENANT, name_of(next(numbers)))[1].release()

    figures = timed("resolve", hold, rounds=1000)
    engine.dispose()
    return figures


def timed(name: str, ask_once: Callable[[], object], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Return median and worst time in milliseconds; an error response ends the run."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer = ask_once()
        times.append(1000 * (time.perf_counter() - began))
        if isinstance(answer, httpx2.Response) and answer.status_code != 404:
            answer.raise_for_status()
    return {f"{name}_ms": round(statistics.median(times), 3), f"{name}_ms_worst": round(max(times), 3)}


if __name__ == "__main__":
    main()
