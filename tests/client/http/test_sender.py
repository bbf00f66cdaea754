"""Retries, timeouts and broken connections, over real sockets."""

import socket
import threading

import httpx2
import pytest

from headmix import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Client,
    InvalidResponseError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
)
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, COMPLETION, DELETED

DONE = Reply.of(COMPLETION)
BUSY = Reply.error(429, "rate_limit_exceeded", retry_after="7")
DOWN = Reply.error(503, "engine_unavailable", retry_after="2")


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_busy_and_down_are_waited_out_as_the_server_asks(
    server: FakeServer, client: Client, pauses: list[float]
) -> None:
    server.script("POST", "/v1/completions", BUSY, DOWN, DONE)
    assert client.complete("x", model="tone").text == " world"
    assert pauses == [7.0, 2.0]
    assert len(server.received) == 3


async def test_the_async_client_waits_the_same(server: FakeServer, pauses: list[float]) -> None:
    server.script("POST", "/v1/completions", BUSY, DOWN, DONE)
    async with AsyncClient(server.url) as client:
        assert (await client.complete("x", model="tone")).text == " world"
    assert pauses == [7.0, 2.0]


def test_the_last_error_is_raised_when_attempts_are_spent(
    server: FakeServer, client: Client, pauses: list[float]
) -> None:
    server.script("POST", "/v1/completions", BUSY)
    with pytest.raises(RateLimitError) as caught:
        client.complete("x", model="tone")
    assert caught.value.retry_after == 7.0
    assert (len(server.received), len(pauses)) == (3, 2)


def test_a_refused_stream_is_tried_again_before_it_begins(
    server: FakeServer, client: Client, pauses: list[float]
) -> None:
    server.script("POST", "/v1/completions", DOWN, Reply.stream(COMPLETION))
    assert [chunk.text for chunk in client.stream.complete("x", model="tone")] == [" world"]
    assert pauses == [2.0]


def test_a_connection_dropped_without_an_answer_is_tried_again(
    server: FakeServer, client: Client, pauses: list[float]
) -> None:
    server.script("POST", "/v1/completions", Reply(drop=True), DONE)
    assert client.complete("x", model="tone").text == " world"
    assert len(pauses) == 1


@pytest.mark.usefixtures("pauses")
def test_what_must_not_happen_twice_is_not_sent_twice(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/adapters/tone/rollback", Reply(drop=True), Reply.of(ADAPTER))
    with pytest.raises(APIConnectionError):
        client.adapters.rollback("tone")
    server.script("DELETE", "/v1/adapters/tone", Reply(drop=True), Reply.of(DELETED))
    with pytest.raises(APIConnectionError):
        client.adapters.remove("tone")
    assert len(server.received) == 2


@pytest.mark.usefixtures("pauses")
def test_a_rollback_to_a_named_version_may_be_sent_twice(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/adapters/tone/rollback", Reply(drop=True), Reply.of(ADAPTER))
    assert client.adapters.rollback("tone", 3).version == 3


def test_no_server_is_a_connection_error_after_all_attempts(pauses: list[float]) -> None:
    with Client(closed_port(), max_retries=3) as client, pytest.raises(APIConnectionError, match="refused") as caught:
        client.models.list()
    assert caught.value.sent is False
    assert len(pauses) == 3


def test_a_silent_server_is_a_timeout_and_is_not_asked_again(server: FakeServer, pauses: list[float]) -> None:
    release = threading.Event()
    server.script("POST", "/v1/completions", Reply(silent=release))
    try:
        with Client(server.url, timeout=0.05) as client, pytest.raises(APITimeoutError, match="timed out"):
            client.complete("x", model="tone")
    finally:
        release.set()
    assert pauses == []


async def test_an_async_timeout_is_the_same(server: FakeServer) -> None:
    release = threading.Event()
    server.script("GET", "/v1/models", Reply(silent=release))
    try:
        async with AsyncClient(server.url, timeout=0.05) as client:
            with pytest.raises(APITimeoutError):
                await client.models.list()
    finally:
        release.set()


def test_a_push_is_sent_again_from_its_start(server: FakeServer, client: Client, pauses: list[float]) -> None:
    server.script("POST", "/v1/adapters", DOWN, Reply.of(ADAPTER, 201))
    seen: list[int] = []
    pushed = client.adapters.push("tone", b"x" * 10, progress=lambda done, _: seen.append(done))
    assert pushed.new_version
    assert server.received[0].body == server.received[1].body
    assert (seen, pauses) == ([10, 10], [2.0])


def test_other_errors_are_raised_at_once(server: FakeServer, client: Client, pauses: list[float]) -> None:
    server.script("GET", "/v1/models/x", Reply.error(404, "model_not_found", "no model x", x_request_id="r-4"))
    with pytest.raises(NotFoundError, match="no model x") as caught:
        client.models.get("x")
    assert (caught.value.request_id, pauses) == ("r-4", [])


def test_an_answer_before_the_upload_ends_is_heard() -> None:
    """A server may refuse a large body by responding and closing while it is still being sent."""
    listening = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            body = b'{"error": {"message": "too large", "code": "payload_too_large"}}'
            head = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                continue

    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        with (
            Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client,
            pytest.raises(PayloadTooLargeError, match="too large"),
        ):
            client.adapters.push("tone", bytes(4_000_000))
    finally:
        thread.join()
        listening.close()


def test_a_page_that_is_no_answer_is_named(server: FakeServer, client: Client) -> None:
    server.script("GET", "/v1/models", Reply(200, b"<html>proxy</html>"))
    with pytest.raises(InvalidResponseError, match="proxy"):
        client.models.list()


def test_every_request_carries_the_key_and_who_asks() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=COMPLETION)

    with Client("http://host", "hm_key", transport=httpx2.MockTransport(handle)) as client:
        client.complete("x", model="tone")
    assert seen[0].headers["authorization"] == "Bearer hm_key"
    assert seen[0].headers["user-agent"].startswith("headmix-python/")
