"""A server that dies twice in a batch: afterwards every line has exactly one answer."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.server.batch_rig import URL, batch_line
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, wait_for, write_fake_base
from headmix_server.core.settings.settings import Settings
from headmix_server.database import open_database
from headmix_server.files.open import open_files
from headmix_server.files.stored_file import Purpose
from headmix_server.tenancy.keys.keys import DEFAULT_TENANT

pytestmark = pytest.mark.slow

LINES = 2000
COMPLETIONS = "/v1/completions"


def get(server: RunningServer, batch_id: str) -> dict[str, Any]:
    time.sleep(0.2)  # the server computes on the same cores
    response = httpx2.get(f"{server.base_url}{URL}/{batch_id}", headers=server.headers, timeout=20)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def kill_after(server: RunningServer, batch_id: str, completed: int) -> int:
    """Kill the server as soon as more lines than that are stored as answered; return how many are."""
    batch = wait_for(
        lambda: (found := get(server, batch_id))["request_counts"]["completed"] > completed and found, server
    )
    assert isinstance(batch, dict)
    assert batch["status"] == "in_progress"
    server.process.send_signal(signal.SIGKILL)
    server.wait()
    return int(batch["request_counts"]["completed"])


def test_every_line_of_a_batch_is_answered_once_though_the_server_is_killed_twice(tmp_path: Path) -> None:
    base, data = write_fake_base(tmp_path / FAKE_BASE), tmp_path / "data"
    names = [f"line {number}" for number in range(LINES)]
    with running_server(tmp_path, base=base, data_dir=data) as server:
        files = open_files(Settings(data_dir=data), open_database(data / "headmix.db"), data / "files")
        lines = [
            batch_line(name, {"model": FAKE_BASE, "prompt": name, "max_tokens": 8}, url=COMPLETIONS) for name in names
        ]
        source = [json.dumps(line).encode() + b"\n" for line in lines]
        file = files.put(DEFAULT_TENANT, Purpose.BATCH, "in.jsonl", source)
        body = {"input_file_id": file.id, "endpoint": COMPLETIONS, "completion_window": "24h"}
        made = httpx2.post(f"{server.base_url}{URL}", json=body, headers=server.headers, timeout=20).json()
        first = kill_after(server, made["id"], 0)
    with running_server(tmp_path, base=base, data_dir=data) as server:
        kill_after(server, made["id"], first)
    with running_server(tmp_path, base=base, data_dir=data) as server:
        ended = wait_for(lambda: (found := get(server, made["id"]))["completed_at"] and found, server)
        assert server.stop() == 0
    assert isinstance(ended, dict)
    assert ended["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    assert ended["error_file_id"] is None
    with files.open(DEFAULT_TENANT, ended["output_file_id"]) as output:
        answers = [json.loads(line) for line in output]
    assert sorted(answer["custom_id"] for answer in answers) == sorted(names)
    assert all(answer["response"]["status_code"] == 200 for answer in answers)
    assert not list((data / "batches").iterdir())
