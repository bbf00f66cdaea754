"""`headmix adapters`."""

import hashlib
import json
from pathlib import Path

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, DELETED, DIGEST, listing


def test_push_says_which_version_it_made(server: FakeServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tone.safetensors"
    path.write_bytes(b"artifact")
    server.script("POST", "/v1/adapters", Reply.of(ADAPTER, 201), Reply.of(ADAPTER, 200))
    first, second = run("adapters", "push", "tone", str(path)), run("adapters", "push", "tone", str(path))
    assert (first.exit_code, first.stdout) == (0, f"tone@3 {DIGEST} (new version)\n")
    assert "unchanged" in second.stdout


def test_every_fault_of_a_refused_artifact_is_shown(server: FakeServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"?")
    faults = ["layers.0.q.head.A: shape", "layers.1.v.head.B: not finite"]
    error = {"message": "2 faults", "type": "x", "param": None, "code": "invalid_adapter", "faults": faults}
    server.script("POST", "/v1/adapters", Reply.of({"error": error}, 422, x_request_id="r-1"))
    done = run("adapters", "push", "tone", str(path))
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-3:] == [
        "error: 2 faults (invalid_adapter, request r-1)",
        "  - layers.0.q.head.A: shape",
        "  - layers.1.v.head.B: not finite",
    ]


def test_a_file_that_is_not_there_is_wrong_usage(server: FakeServer, run: Run) -> None:
    assert run("adapters", "push", "tone", "nowhere.safetensors").exit_code == 2
    assert server.received == []


def test_lists_are_tables_or_json(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("GET", "/v1/adapters/tone/versions?limit=1000", Reply.of(listing(ADAPTER, ADAPTER | {"version": 2})))
    assert "tone" in run("adapters", "list").stdout
    assert [found["version"] for found in json.loads(run("adapters", "versions", "tone", "--json").stdout)] == [3, 2]
    assert json.loads(run("adapters", "list", "--json").stdout)[0]["digest"] == DIGEST
    assert run("adapters", "versions", "tone").exit_code == 0


def test_remove_asks_first(server: FakeServer, run: Run) -> None:
    server.script("DELETE", "/v1/adapters/tone", Reply.of(DELETED))
    assert run("adapters", "remove", "tone", stdin="n\n").exit_code == 1
    assert server.received == []
    assert run("adapters", "remove", "tone", "--yes").stdout == "removed tone, versions 1, 2, 3\n"


def test_one_version_is_removed_retired_and_restored(server: FakeServer, run: Run) -> None:
    server.script("DELETE", "/v1/adapters/tone/versions/2", Reply.of(DELETED | {"versions": [2]}))
    server.script("POST", "/v1/adapters/tone/versions/2/retire", Reply.of(ADAPTER | {"version": 2, "state": "retired"}))
    server.script("POST", "/v1/adapters/tone/versions/2/restore", Reply.of(ADAPTER | {"version": 2}))
    assert run("adapters", "remove", "tone", "--version", "2", "--yes").stdout == "removed tone, versions 2\n"
    assert run("adapters", "retire", "tone", "2").stdout.endswith("is retired\n")
    assert run("adapters", "restore", "tone", "2").stdout.endswith("is ready\n")


def test_rollback_and_load(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/adapters/tone/rollback", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/tone/load", Reply.of(ADAPTER))
    assert "tone@3" in run("adapters", "rollback", "tone").stdout
    assert server.last.json == {"version": None}
    assert "device" in run("adapters", "load", "tone", "--version", "3").stdout
    assert server.last.json == {"version": 3}


def test_download_saves_the_file(server: FakeServer, run: Run, tmp_path: Path) -> None:
    header = f"tone@3 sha256:{hashlib.sha256(b'artifact').hexdigest()}"
    server.script("GET", "/v1/adapters/tone/file", Reply(200, b"artifact", {"x-headmix-adapter": header}))
    done = run("adapters", "download", "tone", "-o", str(tmp_path / "out"))
    assert (done.exit_code, (tmp_path / "out").read_bytes()) == (0, b"artifact")
    missing = run("adapters", "download", "tone", "-o", str(tmp_path / "no" / "out"))
    assert missing.exit_code == 1
    assert missing.stderr.startswith("error: ")


def test_download_replaces_a_file_with_force_alone(server: FakeServer, run: Run, tmp_path: Path) -> None:
    header = f"tone@3 sha256:{hashlib.sha256(b'artifact').hexdigest()}"
    server.script("GET", "/v1/adapters/tone/file", Reply(200, b"artifact", {"x-headmix-adapter": header}))
    path = tmp_path / "out"
    path.write_bytes(b"just trained")
    refused = run("adapters", "download", "tone", "-o", str(path))
    assert (refused.exit_code, refused.stderr) == (
        2,
        f"error: {path} exists; --force replaces it, --output writes elsewhere\n",
    )
    assert (path.read_bytes(), server.received) == (b"just trained", [])
    assert run("adapters", "download", "tone", "-o", str(path), "--force").exit_code == 0
    assert path.read_bytes() == b"artifact"
