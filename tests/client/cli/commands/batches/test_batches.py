"""`headmix batches`."""

import json
from pathlib import Path

import pytest

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import BATCH, FILE, listing

URL = "/v1/batches"
DONE = {**BATCH, "status": "completed", "request_counts": {"total": 3, "completed": 3, "failed": 0}}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix.cli.commands.batches.batches.FOLLOW_SECONDS", 0.0)


def test_a_batch_is_created_shown_and_cancelled(server: FakeServer, run: Run) -> None:
    server.script("POST", URL, Reply.of(BATCH))
    server.script("GET", f"{URL}/batch_1", Reply.of(BATCH))
    server.script("POST", f"{URL}/batch_1/cancel", Reply.of({**BATCH, "status": "cancelling"}))
    server.script("GET", f"{URL}?limit=100", Reply.of(listing(BATCH)))
    done = run("batches", "create", "file-1", "--endpoint", "/v1/classify", "--window", "2h")
    assert done.exit_code == 0
    assert "1 answered, 0 failed, 3 in all" in done.stdout
    assert server.received[0].json == {
        "input_file_id": "file-1",
        "endpoint": "/v1/classify",
        "completion_window": "2h",
    }
    assert "in_progress" in run("batches", "show", "batch_1").stdout
    assert json.loads(run("batches", "show", "batch_1", "--json").stdout)["id"] == "batch_1"
    assert "cancelling" in run("batches", "cancel", "batch_1").stdout
    assert "batch_1" in run("batches", "list").stdout
    assert json.loads(run("batches", "list", "--json").stdout)[0]["status"] == "in_progress"


def test_a_local_file_is_uploaded_first(server: FakeServer, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"{}")
    server.script("POST", "/v1/files", Reply.of({**FILE, "purpose": "batch"}))
    server.script("POST", URL, Reply.of(BATCH))
    assert run("batches", "create", str(file)).exit_code == 0
    assert b"batch" in server.received[0].body
    sent = server.received[1].json
    assert isinstance(sent, dict)
    assert sent["input_file_id"] == FILE["id"]
    assert run("batches", "create", str(tmp_path / "nothing")).exit_code == 1


def test_following_ends_with_the_batch_and_its_status(server: FakeServer, run: Run) -> None:
    server.script("POST", URL, Reply.of(BATCH))
    server.script("GET", f"{URL}/batch_1", Reply.of(BATCH), Reply.of(DONE))
    assert run("batches", "create", "file-1", "--follow").exit_code == 0
    failed = {**DONE, "request_counts": {"total": 3, "completed": 2, "failed": 1}}
    server.script("GET", f"{URL}/batch_1", Reply.of(failed))
    assert run("batches", "follow", "batch_1").exit_code == 1


def test_the_faults_of_a_file_are_shown_with_their_lines(server: FakeServer, run: Run) -> None:
    fault = {"code": "invalid_method", "message": "method must be POST.", "param": "method", "line": 7}
    server.script("GET", f"{URL}/batch_1", Reply.of({**BATCH, "status": "failed", "errors": {"data": [fault]}}))
    done = run("batches", "follow", "batch_1")
    assert (done.exit_code, done.stderr) == (1, "  line 7: method must be POST.\n")
