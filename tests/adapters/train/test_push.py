"""From a data file to a served adapter in one command: `headmix train --data ... --push`, against a running server."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from harness.server.running_server import running_server
from headmix_adapters.artifact import digest_file

pytestmark = pytest.mark.slow


def test_one_command_trains_and_uploads_and_the_server_answers_with_the_adapter(
    tiny_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    with running_server(tmp_path, base=tiny_folder, runner="torch", threads=1, kv_cache_mib=8) as server:
        program = [sys.executable, "-c", "from headmix.cli import main; main()", "--base-url", server.base_url]
        data = [
            "--data",
            data_folder / "classification.train.jsonl",
            "--eval",
            data_folder / "classification.eval.jsonl",
        ]
        words = ["train", *data, "--base", tiny_folder, "--name", "direction", "--epochs", "20", "--push"]
        done = subprocess.run(
            [*program, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"HEADMIX_API_KEY": server.key},
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        digest = digest_file(tmp_path / "adapters" / "direction.safetensors")
        assert done.stdout.splitlines()[-1] == f"pushed direction@1 {digest}"
        body = {"model": "direction", "input": ["the fox rise", "the fox the fox sink"]}
        answer = httpx2.post(f"{server.base_url}/v1/classify", headers=server.headers, json=body, timeout=60)
        assert [entry["label"] for entry in answer.json()["data"]] == ["up", "down"]
