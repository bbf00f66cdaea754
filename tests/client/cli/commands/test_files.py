"""`headmix files`."""

import hashlib
import json
from pathlib import Path

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import FILE, listing

FILE_ID = str(FILE["id"])


def test_upload_prints_the_id_alone(server: FakeServer, run: Run, tmp_path: Path) -> None:
    server.script("POST", "/v1/files", *[Reply.of(FILE)] * 2)
    source = tmp_path / "chats.jsonl"
    source.write_bytes(b"chats")
    done = run("files", "upload", str(source), "--expires-after", "3600")
    assert (done.exit_code, done.stdout) == (0, f"{FILE_ID}\n")
    assert b"fine-tune" in server.received[-1].body
    assert b'filename="chats.jsonl"' in server.received[-1].body
    shown = run("files", "upload", str(source), "--purpose", "batch", "--name", "other", "--json").stdout
    assert json.loads(shown)["id"] == FILE_ID
    assert b'filename="other"' in server.received[-1].body


def test_files_are_listed_and_shown_and_their_names_cannot_control_the_terminal(server: FakeServer, run: Run) -> None:
    hostile = {**FILE, "filename": "a\x1b[31m.jsonl", "expires_at": 1_700_003_600}
    server.script("GET", "/v1/files?limit=1000&purpose=batch", *[Reply.of(listing(hostile))] * 2)
    server.script("GET", f"/v1/files/{FILE_ID}", *[Reply.of(hostile)] * 2)
    table = run("files", "list", "--purpose", "batch").stdout
    assert FILE_ID in table
    assert "\x1b" not in table
    assert json.loads(run("files", "list", "--purpose", "batch", "--json").stdout)[0]["bytes"] == 5
    shown = run("files", "show", FILE_ID).stdout
    assert "2023-11-14 23:13" in shown
    assert "\x1b" not in shown
    assert json.loads(run("files", "show", FILE_ID, "--json").stdout)["purpose"] == "fine-tune"


def test_download_saves_the_bytes_and_replaces_a_file_with_force_alone(
    server: FakeServer, run: Run, tmp_path: Path
) -> None:
    tag = f'"sha256:{hashlib.sha256(b"chats").hexdigest()}"'
    server.script("GET", f"/v1/files/{FILE_ID}/content", *[Reply(200, b"chats", {"etag": tag})] * 2)
    path = tmp_path / "out"
    assert run("files", "download", FILE_ID, "-o", str(path)).stdout == f"saved {path}\n"
    assert path.read_bytes() == b"chats"
    assert run("files", "download", FILE_ID, "-o", str(path)).exit_code == 2
    assert run("files", "download", FILE_ID, "-o", str(path), "--force").exit_code == 0


def test_delete_asks_first(server: FakeServer, run: Run) -> None:
    server.script("DELETE", f"/v1/files/{FILE_ID}", Reply.of({"id": FILE_ID, "deleted": True}))
    assert run("files", "delete", FILE_ID).exit_code == 1
    assert server.received == []
    assert run("files", "delete", FILE_ID, "--yes").stdout == f"deleted {FILE_ID}\n"


def test_delete_says_how_many_bytes_still_count_because_jobs_use_them(server: FakeServer, run: Run) -> None:
    server.script("DELETE", f"/v1/files/{FILE_ID}", Reply.of({"id": FILE_ID, "deleted": True, "held_by_jobs": 5}))
    shown = run("files", "delete", FILE_ID, "--yes").stdout
    assert shown == f"deleted {FILE_ID}; 5 bytes count towards stored_bytes until the jobs that use them end\n"
