"""Posts are kept open in the requested number or sent at their times; a failed one is reported."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.yardstick.contenders.http_load import HttpLoad


class Slow(BaseHTTPRequestHandler):
    """Echoes a request after a moment, and counts the open requests."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    now = most = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        time.sleep(0.02)
        with self.lock:
            Slow.now -= 1
        self.send_response(500 if body == b"bad" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def load() -> Iterator[HttpLoad]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    Slow.now = Slow.most = 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    load = HttpLoad(f"http://127.0.0.1:{server.server_port}/", "key")
    yield load
    load.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_more_are_open_than_asked_for_and_each_gets_its_own_answer(load: HttpLoad) -> None:
    bodies = [f"{number}".encode() for number in range(12)]
    exchanges = load.closed(bodies, 3)
    assert Slow.most == 3
    assert [b"".join(exchange.pieces) for exchange in exchanges] == bodies
    assert all(exchange.seconds >= 0.02 for exchange in exchanges)


def test_each_is_sent_at_its_time_whatever_is_open(load: HttpLoad) -> None:
    began = time.perf_counter()
    exchanges = load.open([b"a", b"b", b"c"], [0.0, 0.001, 0.2])
    assert [round(exchange.due - began, 2) for exchange in exchanges[:2]] == [0.0, 0.0]
    assert exchanges[2].ended - began >= 0.22


def test_a_failed_one_says_what_the_server_said(load: HttpLoad) -> None:
    good, bad = load.closed([b"good", b"bad"], 2)
    assert good.seconds > 0
    with pytest.raises(RuntimeError, match="HTTP 500: b'bad'"):
        _ = bad.seconds
