from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from headmix_server.app.startup.startup_gate import StartupGate


def test_before_the_application_is_there_the_server_is_alive_but_not_ready() -> None:
    client = TestClient(StartupGate())
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
    health = client.get("/health")
    assert (health.status_code, health.content) == (503, b"")
    assert (client.head("/healthz").status_code, client.head("/readyz").status_code) == (200, 503)
    other = client.post("/v1/completions")
    assert other.status_code == 503
    assert other.json()["error"]["code"] == "engine_unavailable"
    assert int(other.headers["retry-after"]) > 0


def test_once_opened_every_request_reaches_the_application() -> None:
    door = StartupGate()
    door.open(PlainTextResponse("inside"))
    assert TestClient(door).get("/readyz").text == "inside"
