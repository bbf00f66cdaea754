"""A server with another base does not start on the same database and bucket, or the same data folder."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.adapters.artifacts import random_artifact
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from harness.server.s3_server import S3Server
from headmix_adapters.base import read_base_shape
from tests.support.storage.databases import PostgresServer

pytestmark = pytest.mark.slow


def other_weights(base: Path, folder: Path) -> Path:
    """Copy a base with weights that differ in one number."""
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = np.ones((4, 4), np.float32)
    weights[1, 1] = 2
    save_file({"model.embed_tokens.weight": weights}, folder / "model.safetensors")
    return folder


def publish(server: RunningServer, path: Path, **fields: str) -> httpx2.Response:
    files = {"file": (path.name, path.read_bytes())}
    data = {"name": path.stem, **fields}
    return httpx2.post(f"{server.base_url}/v1/adapters", headers=server.headers, data=data, files=files, timeout=60)


def ask(server: RunningServer, key: dict[str, str]) -> httpx2.Response:
    body = {"model": "poet", "prompt": "The quick brown fox", "max_tokens": 4}
    return httpx2.post(f"{server.base_url}/v1/completions", headers=key, json=body, timeout=60)


def refusal(server: RunningServer) -> str:
    assert server.wait() == 1
    last: dict[str, Any] = json.loads(server.stderr[-1])
    assert last["event"] == "headmix ends"
    assert not server.events("engine started")
    return str(last["reason"])


def test_on_the_same_database_and_bucket_it_is_refused_though_its_data_folder_is_empty(
    tmp_path: Path, postgres: PostgresServer, s3: S3Server
) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    perturbed = other_weights(base, tmp_path / "perturbed")
    own, other = (read_base_shape("x", folder).fingerprint for folder in (base, perturbed))
    artifact = tmp_path / "poet.safetensors"
    random_artifact(artifact, read_base_shape(FAKE_BASE, base))
    env = {"HEADMIX_DATABASE": postgres.new_database(), "HEADMIX_ARTIFACTS": s3.new_bucket()}
    with running_server(tmp_path, base=base, env=env) as server:
        assert publish(server, artifact).status_code == 201
        key, said = server.headers, ask(server, server.headers).json()["choices"]
        assert server.stop() == 0
    for start in ("first", "second"):  # it must not bind the catalog to its own base either
        data = tmp_path / f"perturbed-{start}"
        with running_server(tmp_path, base=perturbed, data_dir=data, env=env, ready=False) as server:
            assert refusal(server) == (
                f"the catalog belongs to the base {FAKE_BASE} ({own}), and perturbed ({other}) was given: "
                "start with the base it belongs to, or with another database and data folder"
            )
    with running_server(tmp_path, base=base, data_dir=tmp_path / "moved", env=env) as server:
        assert ask(server, key).json()["choices"] == said
        assert server.stop() == 0


def test_in_the_same_data_folder_it_is_refused_and_uploads_that_allowed_a_mismatch_are_served(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    perturbed = other_weights(base, tmp_path / "perturbed")
    artifact = tmp_path / "poet.safetensors"
    random_artifact(artifact, read_base_shape("perturbed", perturbed))
    with running_server(tmp_path, base=base) as server:
        assert publish(server, artifact).status_code == 422
        assert publish(server, artifact, allow_base_mismatch="true").status_code == 201
        said = ask(server, server.headers).json()["choices"]
        assert server.stop() == 0
    with running_server(tmp_path, base=perturbed, ready=False) as server:
        assert "the catalog belongs to the base tiny-base" in refusal(server)
    with running_server(tmp_path, base=base) as server:
        assert ask(server, server.headers).json()["choices"] == said
        assert server.stop() == 0


def test_weights_that_are_replaced_under_a_running_server_are_not_served(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    with running_server(tmp_path, base=base, engine_restarts=1) as server:
        other_weights(base, tmp_path / "other")
        (tmp_path / "other" / "model.safetensors").replace(base / "model.safetensors")
        os.kill(server.engine_pid(), signal.SIGKILL)
        assert server.wait() == 1
        (refused,) = server.events("engine cannot start")
        assert "when the server started and has sha256:" in str(refused["reason"])
        assert len(server.events("engine ready")) == 1


@pytest.mark.parametrize("form", [{"dtype": "bfloat16"}, {"quantize": "int8"}])
def test_how_the_engine_computes_is_not_part_of_what_a_base_is(tmp_path: Path, form: dict[str, Any]) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    artifact = tmp_path / "poet.safetensors"
    random_artifact(artifact, read_base_shape(FAKE_BASE, base))
    with running_server(tmp_path, base=base) as server:
        assert publish(server, artifact).status_code == 201
        assert server.stop() == 0
    with running_server(tmp_path, base=base, **form) as server:
        assert ask(server, server.headers).status_code == 200
        assert server.stop() == 0
