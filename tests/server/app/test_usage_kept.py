"""Usage from before a shutdown is kept, including that of requests the shutdown interrupted."""

import signal
import threading
from datetime import date
from pathlib import Path

import httpx2

from harness.server.running_server import FAKE_BASE, RunningServer, running_server, wait_for
from headmix_server.database import open_database
from headmix_server.tenancy.usage.report import UsageReport


def _stream(server: RunningServer, begun: threading.Event) -> None:
    body = {"model": FAKE_BASE, "prompt": "The fox", "max_tokens": 12000, "stream": True, "ignore_eos": True}
    url = f"{server.base_url}/v1/completions"
    with httpx2.stream("POST", url, headers=server.headers, json=body, timeout=60) as response:
        for _ in response.iter_bytes():
            begun.set()


def test_usage_is_written_at_a_stop_also_of_what_it_cuts_off(tmp_path: Path) -> None:
    with running_server(tmp_path, drain_seconds=0, max_model_len=24000) as server:
        body = {"model": FAKE_BASE, "prompt": "The fox", "max_tokens": 4}
        answer = httpx2.post(f"{server.base_url}/v1/completions", headers=server.headers, json=body, timeout=60)
        whole = answer.json()["usage"]["completion_tokens"]
        begun = threading.Event()
        streaming = threading.Thread(target=_stream, args=(server, begun))
        streaming.start()
        wait_for(begun.is_set, server)
        assert server.stop(signal.SIGTERM) == 0
        streaming.join()
    database = open_database(server.data_dir / "headmix.db")
    (line,) = UsageReport(database).lines(tenant="default", first=date(2000, 1, 1), last=date.max, groups=("adapter",))
    database.dispose()
    assert line.used.requests == 2
    assert line.used.generation_tokens > whole


def test_an_unknown_limits_storage_ends_the_start_without_revealing_its_password(tmp_path: Path) -> None:
    with running_server(tmp_path, ready=False, limits_storage="http://user:secret@host") as server:
        assert server.wait() == 2
    assert "--limits-storage (HEADMIX_LIMITS_STORAGE) is not the URL of a Redis" in server.stderr[-1]
    assert not any("secret" in line for line in server.stderr)
