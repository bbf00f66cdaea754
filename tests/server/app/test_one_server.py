"""Two servers on one database: the second is refused, or takes over from one that was killed or frozen."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.server.running_server import FAKE_BASE, RunningServer, running_server, wait_for, write_fake_base
from tests.support.storage.databases import PostgresServer, postgres_server

pytestmark = pytest.mark.slow

LEASE_SECONDS = 4
ENDLESS = 12000
"""The number of tokens of a stream that outlives any test."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_fake_base(tmp_path / FAKE_BASE)


@pytest.fixture
def shared(empty_database_url: str) -> dict[str, Any]:
    """Return the settings for servers that share one database."""
    return {
        "env": {"HEADMIX_DATABASE": empty_database_url},
        "lease_seconds": LEASE_SECONDS,
        "max_model_len": 2 * ENDLESS,
    }


def ask(server: RunningServer, key: dict[str, str], max_tokens: int = 4, *, timeout: float = 60) -> httpx2.Response:
    body = {"model": FAKE_BASE, "prompt": "The quick brown fox", "max_tokens": max_tokens, "ignore_eos": True}
    return httpx2.post(f"{server.base_url}/v1/completions", headers=key, json=body, timeout=timeout)


def reason(server: RunningServer) -> str:
    """Return why a server exited: its last line."""
    assert server.wait() == 1
    last: dict[str, Any] = json.loads(server.stderr[-1])
    assert last["event"] == "headmix ends"
    return str(last["reason"])


def test_a_second_server_is_refused_plainly_and_the_first_goes_on(
    tmp_path: Path, base: Path, shared: dict[str, Any]
) -> None:
    with running_server(tmp_path, base=base, **shared) as first:
        with running_server(tmp_path, base=base, data_dir=tmp_path / "second", ready=False, **shared) as second:
            told = reason(second)
            assert told.startswith("the database is in use by another headmix server (process ")
            assert f"{first.base_url})" in told
            assert told.endswith("stop that server, or start with another database")
            assert not second.events("engine started")
        assert ask(first, first.headers).status_code == 200
        assert first.events("the lease is lost") == []
        assert first.stop() == 0


def test_one_that_was_killed_is_followed_within_its_lease_and_at_once_from_its_own_data_folder(
    tmp_path: Path, base: Path, shared: dict[str, Any]
) -> None:
    with running_server(tmp_path, base=base, **shared) as first:
        key = first.headers
        first.process.kill()
        first.process.wait()
        with running_server(tmp_path, base=base, data_dir=tmp_path / "elsewhere", **shared) as second:
            assert len(second.events("waiting to see whether the lease's holder is alive")) == 1
            assert ask(second, key).status_code == 200
            second.process.kill()
            second.process.wait()
        with running_server(tmp_path, base=base, data_dir=tmp_path / "elsewhere", **shared) as third:
            assert third.events("waiting to see whether the lease's holder is alive") == []
            assert ask(third, key).status_code == 200
            assert third.stop() == 0


def test_one_that_was_stopped_is_followed_at_once(tmp_path: Path, base: Path, shared: dict[str, Any]) -> None:
    with running_server(tmp_path, base=base, **shared) as first:
        assert first.stop() == 0
    with running_server(tmp_path, base=base, data_dir=tmp_path / "elsewhere", **shared) as second:
        assert second.events("waiting to see whether the lease's holder is alive") == []
        assert second.stop() == 0


def test_one_that_was_suspended_during_a_takeover_ends_and_serves_nothing_more(
    tmp_path: Path, base: Path, shared: dict[str, Any]
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    with running_server(tmp_path, base=base, slow=slow, **shared) as first, ThreadPoolExecutor(2) as pool:
        key, url = first.headers, first.base_url
        assert url
        running = pool.submit(ask, first, key, ENDLESS)
        wait_for(lambda: _metric(first, "headmix_requests_running") == 1, first)
        first.process.send_signal(signal.SIGSTOP)
        with running_server(tmp_path, base=base, data_dir=tmp_path / "elsewhere", **shared) as second:
            came_meanwhile = pool.submit(ask, first, key)
            time.sleep(0.5)  # until it is in the first one's socket
            first.process.send_signal(signal.SIGCONT)
            assert f"another headmix server (process {second.process.pid} " in reason(first)
            assert len(first.events("the lease is lost")) == 1
            assert outcome(came_meanwhile.result) != 200
            assert outcome(running.result) == 503
            assert ask(second, key).status_code == 200
            assert second.stop() == 0


def outcome(result: Any) -> int | None:
    """Return a response's status, or None if the connection ended without one."""
    try:
        return int(result().status_code)
    except httpx2.TransportError:
        return None


def _metric(server: RunningServer, name: str) -> float:
    text = httpx2.get(f"{server.base_url}/metrics", timeout=10).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may kill."""
    with postgres_server() as server:
        yield server


def test_a_database_unavailable_for_longer_than_the_lease_ends_neither_server_nor_requests(
    tmp_path: Path, base: Path, own_postgres: PostgresServer
) -> None:
    env = {"HEADMIX_DATABASE": own_postgres.new_database()}
    # Without keys a request for the base needs no database, so only the lease can refuse it.
    settings: dict[str, Any] = {"env": env, "lease_seconds": 1, "keys": "off", "max_model_len": 2 * ENDLESS}
    with running_server(tmp_path, base=base, **settings) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, server, {}, ENDLESS)
        wait_for(lambda: _metric(server, "headmix_requests_running") == 1, server)
        own_postgres.kill()
        refused = (503, "storage_unavailable", "The database cannot be reached; try again.")
        wait_for(lambda: refusal(ask(server, {})) == refused, server)
        assert server.readiness().status_code == 200
        assert _metric(server, "headmix_requests_running") == 1
        own_postgres.start()
        wait_for(lambda: ask(server, {}).status_code == 200, server)
        assert len(server.events("the lease is not confirmed")) >= 1
        assert len(server.events("the lease is confirmed again")) >= 1
        assert server.events("the lease is lost") == []
        assert running.result().status_code == 200
        assert server.stop() == 0


def refusal(answer: httpx2.Response) -> tuple[int, str, str] | None:
    if answer.status_code == 200:
        return None
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]
