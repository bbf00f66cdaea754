"""The whole program while everything it depends on fails and recovers: open requests do not notice."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, wait_for, write_fake_base
from harness.server.s3_server import S3Server, s3_server
from harness.server.slow_worker import HELD
from headmix_adapters.base import read_base_shape
from tests.support.storage.databases import PostgresServer, postgres_server
from tests.support.storage.redis_server import RedisServer

pytestmark = pytest.mark.slow

ADAPTERS = tuple(f"adapter-{number}" for number in range(6))
BRIEF = ADAPTERS[:3]
"""Adapters with short requests: they give up their slots to others during the outage."""
MODELS = (FAKE_BASE, *ADAPTERS)
STREAMS = 30
SHORT, LONG, ASKED = 20, 250, 4
"""Tokens of streams that end during the outage, of those that outlive it, and of requests sent during it."""


@dataclass
class Stream:
    """A streamed completion so far."""

    model: str
    max_tokens: int
    text: str = ""
    last: str = ""
    begun: bool = False

    def read(self, server: RunningServer) -> None:
        body = {"model": self.model, "prompt": "The fox", "max_tokens": self.max_tokens, "ignore_eos": True}
        url = f"{server.base_url}/v1/completions"
        with httpx2.stream("POST", url, headers=server.headers, json={**body, "stream": True}, timeout=120) as answer:
            for line in answer.iter_lines():
                if not line.startswith("data: "):
                    continue
                self.begun, self.last = True, line.removeprefix("data: ")
                if self.last != "[DONE]":
                    self.text += json.loads(self.last)["choices"][0]["text"]


def _ask(server: RunningServer, model: str, max_tokens: int = ASKED) -> httpx2.Response:
    body = {"model": model, "prompt": "The fox", "max_tokens": max_tokens, "ignore_eos": True}
    return httpx2.post(f"{server.base_url}/v1/completions", headers=server.headers, json=body, timeout=60)


def _metric(server: RunningServer, name: str) -> float:
    text = httpx2.get(f"{server.base_url}/metrics", timeout=10).raise_for_status().text
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@contextmanager
def _serving(folder: Path, *, slow: Path, **env: str) -> Iterator[RunningServer]:
    base = write_fake_base(folder / FAKE_BASE)
    preload = folder / "preload"
    preload.mkdir()
    for seed, name in enumerate(ADAPTERS):
        random_artifact(preload / f"{name}.safetensors", read_base_shape(FAKE_BASE, base), seed=seed)
    with running_server(
        folder,
        base=base,
        preload=preload,
        env=env,
        slow=slow,
        adapter_slots=4,
        limit_tokens_per_minute=1_000_000,
    ) as server:
        yield server


@contextmanager
def _streaming(server: RunningServer, slow: Path) -> Iterator[list[tuple[Stream, "Future[None]"]]]:
    """Yield streams that have all been admitted, of which some run and others wait for a slot, in slow steps."""
    slow.write_text(HELD)  # or the first might end before the last has come
    models = [MODELS[number % len(MODELS)] for number in range(STREAMS)]
    chosen = [Stream(model, SHORT if model in BRIEF else LONG) for model in models]
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [(stream, pool.submit(stream.read, server)) for stream in chosen]

        def open_requests() -> float:
            return _metric(server, "headmix_requests_running") + _metric(server, "headmix_requests_waiting")

        wait_for(lambda: open_requests() == STREAMS, server)
        slow.write_text("")
        yield streams


@pytest.fixture
def postgresql() -> Iterator[PostgresServer]:
    """The test's own PostgreSQL, because it is killed."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def test_not_one_of_thirty_streams_ends_while_database_redis_and_bucket_are_unavailable(
    tmp_path: Path, postgresql: PostgresServer, redis: RedisServer, own_s3: S3Server
) -> None:
    slow = tmp_path / "slow"
    env = {
        "HEADMIX_DATABASE": postgresql.new_database(),
        "HEADMIX_LIMITS_STORAGE": redis.url,
        "HEADMIX_ARTIFACTS": own_s3.new_bucket(),
    }
    with _serving(tmp_path, slow=slow, **env) as server, _streaming(server, slow) as streams:
        engine = server.engine_pid()
        postgresql.kill()
        redis.stop()
        own_s3.kill()
        wait_for(lambda: all(done.done() for stream, done in streams if stream.model in BRIEF), server)
        _check_refusal(server)
        assert server.readiness().json() == {"status": "ready"}
        postgresql.start()
        redis.start()
        wait_for(lambda: _ask(server, ADAPTERS[0]).status_code == 200, server)
        slow.unlink()
        for stream, done in streams:
            done.result(timeout=60)
            assert stream.last == "[DONE]", stream
        assert [event["pid"] for event in server.events("engine started")] == [engine]
        assert server.events("internal error") == []
        expected = Counter({ADAPTERS[0]: ASKED})
        for stream, _ in streams:
            expected[stream.model] += stream.max_tokens
        _check_usage(server, expected)
        _check_answers(server, [stream for stream, _ in streams])


def _check_refusal(server: RunningServer) -> None:
    """Check that what needs the database is refused quickly, with a Retry-After."""
    for path in ("/v1/models", "/v1/adapters", "/v1/usage", "/metrics"):
        answer = httpx2.get(f"{server.base_url}{path}", headers=server.headers, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable"), path
        assert answer.headers["retry-after"] == "5"
    refused = _ask(server, ADAPTERS[0])
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
    # Without a key, metrics may be a second old.
    wait_for(lambda: _metric(server, 'headmix_storage_failures_total{storage="database"}') >= 1, server)


def _check_answers(server: RunningServer, streams: list[Stream]) -> None:
    alone = {
        (model, length): _ask(server, model, length).json()["choices"][0]["text"]
        for model, length in {(stream.model, stream.max_tokens) for stream in streams}
    }
    for stream in streams:
        assert stream.text == alone[stream.model, stream.max_tokens], stream


def _check_usage(server: RunningServer, expected: Counter[str]) -> None:
    """Check that every token of requests that ended during the outage is finally counted, and none twice."""

    def counted() -> Counter[str]:
        url = f"{server.base_url}/v1/usage?group_by=model"
        lines = httpx2.get(url, headers=server.headers, timeout=30).raise_for_status().json()["data"]
        return Counter({line["model"]: line["generation_tokens"] for line in lines})

    wait_for(lambda: counted().total() >= expected.total(), server)  # reading usage does not trigger writing it
    assert counted() == expected
