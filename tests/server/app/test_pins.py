"""A pinned adapter is on the device without a request: after the engine's death, a restart and an upload."""

import os
import signal
from pathlib import Path

import httpx2
import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, wait_for, write_fake_base
from headmix_adapters.base import read_base_shape

pytestmark = pytest.mark.slow


def adapter(server: RunningServer) -> tuple[int, bool, str]:
    found = httpx2.get(f"{server.base_url}/v1/adapters/poet", headers=server.headers, timeout=60).json()
    return found["version"], found["pinned"], found["resident"]


def test_a_pin_outlives_engine_and_server_and_follows_an_upload(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    shape = read_base_shape(FAKE_BASE, base)
    for seed, folder in ((1, tmp_path / "preload"), (2, tmp_path)):
        folder.mkdir(exist_ok=True)
        random_artifact(folder / "poet.safetensors", shape, seed=seed)
    with running_server(tmp_path, base=base, preload=tmp_path / "preload") as server:
        response = httpx2.post(f"{server.base_url}/v1/adapters/poet/pin", headers=server.headers, timeout=60)
        assert (response.status_code, response.json()["resident"]) == (200, "device")
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_for(lambda: len(server.events("engine started")) == 2, server)
        wait_for(lambda: adapter(server) == (1, True, "device"), server)
        assert server.stop() == 0
    with running_server(tmp_path, base=base) as server:
        wait_for(lambda: adapter(server) == (1, True, "device"), server)
        httpx2.post(
            f"{server.base_url}/v1/adapters",
            headers=server.headers,
            data={"name": "poet"},
            files={"file": (tmp_path / "poet.safetensors").read_bytes()},
            timeout=60,
        ).raise_for_status()
        wait_for(lambda: adapter(server) == (2, True, "device"), server)
        assert server.stop() == 0
