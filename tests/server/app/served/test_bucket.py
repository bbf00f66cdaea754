"""The whole program with its artifacts in a real S3: uploaded, served, and found again by a server without a cache."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from harness.server.s3_server import S3Server, s3_server
from headmix_adapters.base import read_base_shape

pytestmark = pytest.mark.slow


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def complete(server: RunningServer) -> str:
    body = {"model": "poet", "prompt": "The quick brown fox", "max_tokens": 4}
    answer = httpx2.post(f"{server.base_url}/v1/completions", headers=server.headers, json=body, timeout=60)
    return str(answer.raise_for_status().json()["choices"][0]["text"])


def test_a_server_serves_from_its_bucket_also_after_its_cache_is_lost(tmp_path: Path, s3: S3Server) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    artifact = tmp_path / "poet.safetensors"
    random_artifact(artifact, read_base_shape(FAKE_BASE, base))
    env = {"HEADMIX_ARTIFACTS": s3.new_bucket()}
    with running_server(tmp_path, base=base, env=env) as server:
        files = {"file": ("poet.safetensors", artifact.read_bytes())}
        url = f"{server.base_url}/v1/adapters"
        httpx2.post(url, headers=server.headers, data={"name": "poet"}, files=files).raise_for_status()
        said = complete(server)
        data = server.data_dir
        assert server.stop() == 0
        assert "topsecret" not in "".join([*server.stdout, *server.stderr])
    found = list(data.rglob("*.safetensors"))
    assert found, "nothing was cached"
    for path in found:
        path.unlink()
    with running_server(tmp_path, base=base, env=env) as server:
        assert complete(server) == said


def test_a_missing_bucket_ends_the_start_with_its_reason(tmp_path: Path, s3: S3Server) -> None:
    with running_server(tmp_path, ready=False, env={"HEADMIX_ARTIFACTS": s3.address("nowhere")}) as server:
        assert server.wait() == 2
    assert "there is no bucket of that name" in "".join(server.stderr)
    assert "topsecret" not in "".join([*server.stdout, *server.stderr])
