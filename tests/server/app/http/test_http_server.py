"""The server starts with a placeholder application, which is replaced once the real one is ready."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from headmix_server.app.http.server import http_server
from headmix_server.app.startup.startup_gate import StartupGate
from headmix_server.core.settings.settings import Settings


@pytest.mark.parametrize("handed_over", [False, True])
def test_after_the_hand_over_requests_reach_the_application_itself(handed_over: bool) -> None:
    server = http_server(StartupGate(), Settings(base="tiny"), max_connections=4)
    server.config.load()
    if handed_over:
        server.hand_over(PlainTextResponse("inside"))
    answer = TestClient(server.config.loaded_app).get("/readyz")
    assert answer.status_code == (200 if handed_over else 503)


def test_the_clients_address_is_still_the_proxys_word_where_that_is_trusted() -> None:
    server = http_server(StartupGate(), Settings(base="tiny"), max_connections=4)
    server.config.load()
    before = server.config.loaded_app
    server.hand_over(PlainTextResponse("inside"))
    assert server.config.loaded_app is before
