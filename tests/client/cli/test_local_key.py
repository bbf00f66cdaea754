"""The command line next to a server that was started in the same folder."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headmix.cli import build_app
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import BASE_MODEL, chat_chunk, listing

KEY = "hm_local"


@pytest.fixture
def here(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ".headmix"
    folder.mkdir()
    (folder / "address").write_text(f"{server.url}\n")
    (folder / "admin.key").write_text(f"{KEY}\n")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HEADMIX_")]:
        monkeypatch.delenv(name)
    return folder


def run_without_key(server: FakeServer, *args: str) -> Result:
    return CliRunner().invoke(build_app(), args, env={"HEADMIX_BASE_URL": server.url}, prog_name="headmix")


@pytest.mark.usefixtures("here")
def test_it_finds_the_servers_key_and_asks_its_base(server: FakeServer) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    server.script("POST", "/v1/chat/completions", Reply.stream(chat_chunk("Hi")))
    done = run_without_key(server, "chat", "Hello")
    assert (done.exit_code, done.stdout) == (0, "Hi\n")
    assert server.last.headers["authorization"] == f"Bearer {KEY}"
    assert isinstance(server.last.json, dict)
    assert server.last.json["model"] == "small"


@pytest.mark.usefixtures("here")
def test_a_key_of_ones_own_comes_first(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    assert run("models").exit_code == 0
    assert server.last.headers["authorization"] == "Bearer hm_key"


def test_a_key_that_is_refused_is_named_by_its_file_and_never_shown(server: FakeServer, here: Path) -> None:
    server.script("GET", "/v1/models", Reply.error(401, "invalid_api_key", "The API key is not valid."))
    done = run_without_key(server, "models")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "error: The API key is not valid. (invalid_api_key)",
        "  the key sent was the one in .headmix/admin.key; use --api-key or HEADMIX_API_KEY for another one",
    ]
    (here / "address").unlink()
    done = run_without_key(server, "models")
    assert "run this in the folder where the server was started" in done.stderr
    assert "authorization" not in server.last.headers
    assert KEY not in done.stderr + done.stdout


def test_without_a_server_the_question_is_whether_it_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = CliRunner().invoke(build_app(), ["models"], env={"HEADMIX_BASE_URL": url})
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"error: no connection to {url}: refused; is the server running?",
        "  `headmix serve` (or `make serve`) starts one; --base-url or HEADMIX_BASE_URL names another",
    ]
