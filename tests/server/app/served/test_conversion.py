"""The whole program with a conversion in progress: it ends with the server, however that ends, and leaves nothing."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import torch
from safetensors.torch import save

from harness.server.running_server import RunningServer, running_server, wait_for
from headmix_adapters.artifact import open_artifact
from headmix_adapters.config import HeadPart, SiteConfig, Sites

pytestmark = pytest.mark.slow

MODULE = "base_model.model.model.layers.1.self_attn.q_proj"
LORA = {f"{MODULE}.lora_A.weight": torch.ones(2, 32), f"{MODULE}.lora_B.weight": torch.ones(32, 2)}
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj"]}


BLOCKS = {f"{MODULE}.lora_A.weight": torch.ones(4, 32), f"{MODULE}.lora_B.weight": torch.ones(32, 1)}
BLOCKS_CONFIG = CONFIG | {"r": 4, "use_bdlora": {"target_modules_bd_b": ["q_proj"], "nblocks": 4}}


def upload(server: RunningServer) -> None:
    data = {"name": "tone", "config": json.dumps(CONFIG)}
    files = {"file": ("adapter_model.safetensors", save(LORA))}
    with suppress(httpx2.TransportError):  # the server exits before it responds
        httpx2.post(f"{server.base_url}/v1/adapters", headers=server.headers, data=data, files=files, timeout=100)


def conversions(server: RunningServer) -> list[int]:
    """Return this server's conversion processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = place.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            if (
                int(parent) == server.process.pid
                and "headmix_adapters.convert" in place.joinpath("cmdline").read_text()
            ):
                found.append(int(place.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def converting(server: RunningServer) -> Iterator[int]:
    """Yield a conversion's process while its client waits."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[None] = pool.submit(upload, server)
        yield wait_for(lambda: conversions(server), server)[0]
        waiting.result()


def test_a_block_diagonal_lora_is_uploaded_as_its_two_files_and_refused_by_name(tmp_path: Path) -> None:
    with running_server(tmp_path, conversion_niceness=0) as server:
        address, files = f"{server.base_url}/v1/adapters", {"file": ("adapter_model.safetensors", save(BLOCKS))}
        data = {"name": "blocks", "config": json.dumps(BLOCKS_CONFIG)}
        made = httpx2.post(address, headers=server.headers, data=data, files=files, timeout=100)
        assert made.status_code == 201, made.text
        found = httpx2.get(f"{address}/blocks/file", headers=server.headers, timeout=100)
        (tmp_path / "blocks.safetensors").write_bytes(found.content)
        config = open_artifact(tmp_path / "blocks.safetensors").config
        assert config.sites == Sites(q=SiteConfig(head=HeadPart(rank=1, base="x", scale=0.75, bias=False)))
        wrong = BLOCKS_CONFIG | {"use_bdlora": {"target_modules_bd_b": ["q_proj"], "nblocks": 2}}
        data = {"name": "blocks", "config": json.dumps(wrong)}
        refused = httpx2.post(address, headers=server.headers, data=data, files=files, timeout=100)
        assert refused.status_code == 422
        assert "its rank is 4 (B: 2), the config says 4" in refused.json()["error"]["message"]


def test_a_stop_does_not_wait_for_a_conversion(tmp_path: Path) -> None:
    with running_server(tmp_path, conversion_niceness=0) as server, converting(server) as pid:
        os.kill(pid, signal.SIGSTOP)  # by itself it would never end
        assert server.stop() == 0
        assert not is_running(pid)
    assert not list((server.data_dir / "artifacts" / "incoming").iterdir())


def test_what_a_conversion_left_behind_when_the_server_was_killed_goes_at_the_next_start(tmp_path: Path) -> None:
    with running_server(tmp_path, conversion_niceness=0) as server, converting(server) as pid:
        server.process.kill()
        server.wait()
        while is_running(pid):
            os.sched_yield()
    incoming = server.data_dir / "artifacts" / "incoming"
    assert list(incoming.iterdir())
    with running_server(tmp_path, base=server.base, data_dir=server.data_dir):
        assert not list(incoming.iterdir())
