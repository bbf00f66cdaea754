"""The whole program, with two processes, real signals and the fake runner."""

import json
import os
import re
import select
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.server.running_server import (
    FAKE_BASE,
    RunningServer,
    running_server,
    serve_command,
    server_environment,
    wait_for,
    write_fake_base,
)
from harness.server.slow_worker import HELD
from headmix_adapters.base import read_base_shape
from headmix_server.app.storage.data_folder import run_folder
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.slow

LONG = 4000
ENDLESS = 12000
"""Tokens of requests that are still open when a test needs them; the latter take longer than any test."""

Futures = list[Future[httpx2.Response]]


def _complete(server: RunningServer, max_tokens: int = 4, model: str = FAKE_BASE) -> httpx2.Response:
    body = {"model": model, "prompt": "The quick brown fox", "max_tokens": max_tokens}
    return httpx2.post(f"{server.base_url}/v1/completions", headers=server.headers, json=body, timeout=60)


@contextmanager
def _open_requests(server: RunningServer, count: int, max_tokens: int) -> Iterator[list[Future[httpx2.Response]]]:
    """Yield requests that the engine has received."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(_complete, server, max_tokens) for _ in range(count)]
        names = ("headmix_requests_running", "headmix_requests_waiting")
        wait_for(lambda: sum(_metric(server, name) for name in names) == count, server)
        yield futures


def _metric(server: RunningServer, name: str) -> float:
    text = httpx2.get(f"{server.base_url}/metrics", timeout=10).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def _adapters(server: RunningServer) -> list[tuple[str, int]]:
    listed = httpx2.get(f"{server.base_url}/v1/adapters", headers=server.headers, timeout=10).json()
    return [(adapter["name"], adapter["version"]) for adapter in listed["data"]]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _write_adapters(base: Path, folder: Path) -> Path:
    folder.mkdir()
    shape = read_base_shape(FAKE_BASE, base)
    random_artifact(folder / "poet.safetensors", shape, seed=1)
    random_artifact(folder / "spam.safetensors", shape, seed=2, classifier=classifier_config("ham", "spam"))
    (folder / "broken.safetensors").write_bytes(b"nonsense")
    return folder


def test_the_first_start_preloads_and_shows_the_key_once_and_the_next_finds_everything(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    preload = _write_adapters(base, tmp_path / "preload")
    with running_server(tmp_path, base=base, preload=preload) as server:
        assert _adapters(server) == [("poet", 1), ("spam", 1)]
        assert _complete(server, model="poet").status_code == 200
        key, greeting = server.key, wait_for(lambda: "".join(server.stdout), server)
        assert stat.S_IMODE((server.data_dir / "admin.key").stat().st_mode) == 0o600
        assert [event["file"] for event in server.events("preload refused")] == [str(preload / "broken.safetensors")]
        assert server.stop() == 0
        told = "".join(server.stdout)
        assert told.count(key) == 1
        assert "generate with poet" in told
        assert "classify with spam" in told
        assert greeting
        assert not (server.data_dir / "run").exists()
    with running_server(tmp_path, base=base) as server:
        assert _adapters(server) == [("poet", 1), ("spam", 1)]
        assert server.stop() == 0
        assert key not in "".join(server.stdout)
        assert server.key == key


def _run_curl(command: str, key: str) -> httpx2.Response:
    """Do what the command would do with curl, which test machines need not have."""
    words = shlex.split(re.sub(r"\$\(cat \S+/admin\.key\)", key, command))
    headers = dict(words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")
    if "-d" not in words:
        return httpx2.get(words[-1], headers=headers, timeout=60)
    return httpx2.post(words[-1], headers=headers, content=words[words.index("-d") + 1], timeout=60)


def test_pasted_commands_work(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    with running_server(tmp_path, base=base, preload=_write_adapters(base, tmp_path / "preload")) as server:
        wait_for(lambda: "# metrics\n" in server.stdout, server)
        commands = [line for line in server.stdout if line.startswith("curl ")]
        assert len(commands) == 4
        for command in commands:
            answer = _run_curl(command.strip(), server.key)
            assert answer.status_code == 200, (command, answer.text)


def test_a_killed_engine_fails_what_is_open_and_comes_back_by_itself(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    preload = _write_adapters(base, tmp_path / "preload")
    with running_server(tmp_path, base=base, preload=preload, max_model_len=2 * ENDLESS) as server:
        began = _metric(server, "headmix_engine_process_start_time_seconds")
        with _open_requests(server, 6, ENDLESS) as requests:
            os.kill(server.engine_pid(), signal.SIGKILL)
            answers = [request.result() for request in requests]
        assert {answer.status_code for answer in answers} == {503}
        for answer in answers:
            assert answer.json()["error"]["code"] == "engine_unavailable"
            assert "SIGKILL" in answer.json()["error"]["message"]
            assert "retry-after" in answer.headers
        lost = wait_for(lambda: server.events("engine lost, starting a new one"), server)
        assert [str(event["reason"]) for event in lost if "SIGKILL" not in str(event["reason"])] == []
        wait_for(lambda: len(server.events("engine ready")) == 2, server)
        server.wait_ready()
        assert _complete(server, model="poet").status_code == 200
        assert _adapters(server) == [("poet", 1), ("spam", 1)]
        # A scrape without a key may be a second old.
        wait_for(lambda: _metric(server, "headmix_engine_restarts_total") == 1, server)
        wait_for(lambda: _metric(server, "headmix_engine_process_start_time_seconds") > began, server)


def test_a_crash_loop_ends_the_program_and_the_last_line_says_why(tmp_path: Path) -> None:
    with running_server(tmp_path, engine_restarts=1) as server:
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_for(lambda: len(server.events("engine ready")) == 2, server)
        os.kill(server.engine_pid(), signal.SIGKILL)
        assert server.wait() == 1
        last = json.loads(server.stderr[-1])
        assert last["event"] == "headmix ends"
        assert "SIGKILL" in last["reason"]
        assert "more than 1 engine deaths" in last["reason"]


def test_a_server_killed_outright_leaves_no_engine_and_no_lock(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        engine = server.engine_pid()
        server.process.kill()
        server.process.wait()
        assert _gone(engine)
        assert run_folder(server.data_dir).is_dir()
        with running_server(tmp_path, base=server.base, data_dir=server.data_dir) as successor:
            assert successor.stop() == 0
        assert not run_folder(server.data_dir).exists()


def _gone(pid: int) -> bool:
    """Wait for a process that is not our child to exit; return whether it did."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_lets_open_requests_finish_and_refuses_new_ones(number: signal.Signals, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(HELD)
    with running_server(tmp_path, slow=slow) as server:
        engine = server.engine_pid()
        with _open_requests(server, 2, 4) as requests:
            server.process.send_signal(number)
            wait_for(lambda: server.events("draining"), server)
            refused = _complete(server)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_overloaded")
            assert "retry-after" in refused.headers
            assert server.readiness().json()["status"] == "draining"
            slow.unlink()
            assert [request.result().status_code for request in requests] == [200, 200]
        assert server.wait() == 0
        assert not _is_alive(engine)


def test_under_nohup_a_hangup_changes_nothing(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running_server(tmp_path) as server:
            server.process.send_signal(signal.SIGHUP)
            assert _complete(server).status_code == 200
            assert not server.events("draining")
            assert server.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_ends_the_server_but_not_what_it_is_answering(tmp_path: Path) -> None:
    base, data_dir = write_fake_base(tmp_path / FAKE_BASE), tmp_path / "data"
    command = serve_command(base=base, data_dir=data_dir, runner="fake", port=0, max_model_len=2 * ENDLESS)
    with in_terminal(command, server_environment(), width=400) as terminal:
        url = terminal.wait_for(r"headmix serves: (\S+)")[1]
        headers = {"Authorization": f"Bearer {(data_dir / 'admin.key').read_text().strip()}"}
        body = {"model": FAKE_BASE, "prompt": "The quick brown fox", "max_tokens": LONG, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/completions", headers=headers, json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: {")
            terminal.close()
            while httpx2.get(f"{url}/readyz", timeout=10, verify=False).json()["status"] != "draining":
                assert terminal.process.poll() is None
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert terminal.process.wait(60) == 0


def test_a_second_ctrl_c_does_not_wait_for_them(tmp_path: Path) -> None:
    with running_server(tmp_path, max_model_len=2 * ENDLESS) as server:
        with _open_requests(server, 2, ENDLESS) as requests:
            server.process.send_signal(signal.SIGINT)
            wait_for(lambda: server.events("draining"), server)
            server.process.send_signal(signal.SIGINT)
            answers = [request.result() for request in requests]
        assert [answer.json()["error"]["code"] for answer in answers] == ["engine_unavailable"] * 2
        assert server.wait() == 0


def test_a_stop_during_the_start_is_a_clean_one(tmp_path: Path) -> None:
    with running_server(tmp_path, ready=False) as server:
        assert server.base_url
        assert server.stop() == 0
        assert json.loads(server.stderr[-1])["event"] == "headmix stopped"


def test_a_port_in_use_a_folder_in_use_and_a_missing_base_are_reported_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        port = server.base_url.rpartition(":")[2]
        cases = {
            "address already in use": {"base": server.base, "data_dir": tmp_path / "other", "port": port},
            "another headmix server": {"base": server.base, "data_dir": server.data_dir},
            "no base": {"base": tmp_path / "missing.gguf", "data_dir": tmp_path / "third"},
        }
        for told, settings in cases.items():
            with running_server(tmp_path, ready=False, **settings) as failing:  # type: ignore[arg-type]
                assert failing.wait() == (2 if told == "no base" else 1)
                assert told in failing.stderr[-1]


def test_the_api_process_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, headmix_server.app.server; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
