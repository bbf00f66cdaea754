"""`headmix adapters`."""

import hashlib
import json
from pathlib import Path

import pytest

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


def test_a_single_fault_is_printed_once(server: FakeServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"?")
    error = {"message": "Refused: it is text.", "code": "invalid_adapter", "faults": ["it is text"]}
    server.script("POST", "/v1/adapters", Reply.of({"error": error}, 422))
    assert run("adapters", "push", "tone", str(path)).stderr == "error: Refused: it is text. (invalid_adapter)\n"


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
    assert run("adapters", "remove", "tone", "--yes").stdout == "removed tone@1, tone@2, tone@3\n"


@pytest.mark.parametrize("named", [("tone@2",), ("tone", "2"), ("tone@2", "2")])
def test_one_version_is_retired_and_restored(server: FakeServer, run: Run, named: tuple[str, ...]) -> None:
    server.script("POST", "/v1/adapters/tone/versions/2/retire", Reply.of(ADAPTER | {"version": 2, "state": "retired"}))
    server.script("POST", "/v1/adapters/tone/versions/2/restore", Reply.of(ADAPTER | {"version": 2}))
    assert run("adapters", "retire", *named).stdout == f"tone@2 {DIGEST} is retired\n"
    assert run("adapters", "restore", *named).stdout == f"tone@2 {DIGEST} is ready\n"


@pytest.mark.parametrize("named", [("tone@2",), ("tone", "--version", "2")])
def test_every_command_takes_a_version_by_the_same_name(
    server: FakeServer, run: Run, named: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Reply.of(ADAPTER | {"version": 2})
    header = f"tone@2 sha256:{hashlib.sha256(b'artifact').hexdigest()}"
    server.script("GET", "/v1/adapters/tone%402", two)
    server.script("POST", "/v1/adapters/tone/rollback", two)
    server.script("POST", "/v1/adapters/tone/load", two)
    server.script("PUT", "/v1/adapters/tone/canary", Reply.of(ADAPTER))
    server.script("DELETE", "/v1/adapters/tone/versions/2", Reply.of(DELETED | {"versions": [2]}))
    server.script("GET", "/v1/adapters/tone/file?version=2", Reply(200, b"artifact", {"x-headmix-adapter": header}))
    for command, told in (
        (("show", *named), "tone@2"),
        (("rollback", *named), f"tone@2 {DIGEST} is current"),
        (("load", *named), f"tone@2 {DIGEST} is on device"),
        (("canary", *named, "--percent", "5"), f"tone@2 gets 5 % of the requests, tone@3 {DIGEST} the others"),
        (("remove", *named, "--yes"), "removed tone@2"),
    ):
        done = run("adapters", *command)
        assert done.exit_code == 0, command
        assert told in done.stdout, command
    monkeypatch.chdir(tmp_path)
    assert run("adapters", "download", *named).stdout == "saved tone.safetensors\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "tone@"), "is not NAME or NAME@VERSION"),
        (("show", "tone@latest"), "is not NAME or NAME@VERSION"),
        (("show", "tone@0"), "is not NAME or NAME@VERSION"),
        (("show", "tone@2", "--version", "3"), "tone@2 and --version 3 are different versions"),
        (("retire", "tone"), "give the version, for example tone@3"),
        (("retire", "tone@2", "3"), "different versions"),
        (("push", "tone@2", __file__), "give only its name, 'tone'"),
        (("versions", "tone@2"), "give only its name, 'tone'"),
        (("pin", "tone@2"), "give only its name, 'tone'"),
        (("share", "tone@2", "--everyone"), "give only its name, 'tone'"),
    ],
)
def test_a_version_where_none_belongs_or_two_that_differ_are_wrong_usage(
    server: FakeServer, run: Run, words: tuple[str, ...], told: str
) -> None:
    done = run("adapters", *words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert server.received == []


def test_show_prints_everything_about_one_version(server: FakeServer, run: Run) -> None:
    examples = [
        {"prompt": 'Define "sparrow".', "expect": "a small bird", "chat": True},
        {"prompt": "Once", "chat": False},
    ]
    more = {"examples": examples, "pinned": True, "canary": {"version": 4, "percent": 10}, "labels": ["ham", "spam"]}
    server.script("GET", "/v1/adapters/tone", Reply.of(ADAPTER | more | {"training": {"metrics": {"accuracy": 0.9}}}))
    lines = [line.rstrip() for line in run("adapters", "show", "tone").stdout.splitlines()]
    shown = {line[:14].strip(): line[14:] for line in lines}
    assert lines[0].split() == ["adapter", "tone@3"]
    assert shown["digest"] == DIGEST
    assert shown["state"] == "current"
    assert shown["canary"] == "tone@4 gets 10 % of requests"
    assert shown["pinned"] == "yes"
    assert shown["labels"] == "ham, spam"
    assert shown["metrics"] == '{"accuracy": 0.9}'
    assert [line.split(maxsplit=1)[-1] for line in lines[-3:]] == ['Define "sparrow".', "a small bird", "Once"]
    assert json.loads(run("adapters", "show", "tone", "--json").stdout)["examples"][0]["expect"] == "a small bird"


def test_the_list_has_columns_of_canaries_and_pins(server: FakeServer, run: Run) -> None:
    running = ADAPTER | {"pinned": True, "canary": {"version": 4, "percent": 10}}
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(listing(running, ADAPTER | {"name": "mood"})))
    header, _, first, second = [line.split() for line in run("adapters", "list").stdout.splitlines() if line.strip()]
    assert header[:5] == ["adapter", "task", "method", "canary", "pinned"]
    assert first[:7] == ["tone@3", "generation", "kernel-mix", "tone@4", "10", "%", "yes"]
    assert second[:5] == ["mood@3", "generation", "kernel-mix", "-", "-"]


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
