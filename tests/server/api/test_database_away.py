"""Every route while the database is unavailable: what needs it is refused for that reason; running requests go on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api.app import create_app
from headmix_server.core.errors import StorageUnavailable
from headmix_server.core.messages import Generate
from tests.support.engine_messages import token
from tests.support.sse import events

NO_DATABASE = {"GET /health", "GET /healthz", "GET /readyz", "GET /metrics"}
BODIES = {
    "POST /v1/completions": {"model": "poet", "prompt": "x"},
    "POST /v1/chat/completions": {"model": "poet", "messages": [{"role": "user", "content": "x"}]},
    "POST /v1/classify": {"model": "poet", "input": "x"},
    "POST /v1/embeddings": {"model": "poet", "input": "x"},
    "POST /v1/moderations": {"model": "poet", "input": "x"},
    "POST /v1/rerank": {"model": "poet", "query": "x", "documents": ["y"]},
    "POST /v1/responses": {"model": "poet", "input": "x"},
    "POST /v1/score": {"model": "poet", "text_1": "x", "text_2": "y"},
    "POST /v1/batches": {"input_file_id": "file-1", "endpoint": "/v1/completions"},
    "POST /tokenize": {"model": "poet", "prompt": "x"},
    "POST /detokenize": {"model": "poet", "tokens": [1]},
    "PUT /v1/adapters/{name}/sharing": {"tenants": ["other"]},
    "PUT /v1/adapters/{name}/canary": {"version": 1, "percent": 10},
    "POST /v1/fine_tuning/jobs": {"model": "poet", "training_file": "x"},
    "POST /v1/tenants": {"name": "acme"},
    "POST /v1/tenants/{tenant}/keys": {"scopes": ["inference"]},
    "PATCH /v1/tenants/{tenant}/limits": {"adapters": 3},
    "POST /v1/uploads": {"bytes": 5, "filename": "a", "mime_type": "text/plain", "purpose": "batch"},
    "POST /v1/uploads/{upload_id}/complete": {"part_ids": ["part_1"]},
}
NAMES = {
    "name": "poet",
    "model": "poet",
    "tenant": "tenant",
    "key_id": "key_1",
    "version": "1",
    "batch_id": "batch_1",
    "file_id": "file-1",
    "upload_id": "upload_1",
    "job_id": "ftjob-1",
}


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path / "data", settings={"keys": "off"}) as running:
        yield running


@contextmanager
def away(rig: ApiRig) -> Iterator[None]:
    """Move the database's file away during the block."""
    folder = rig.state.settings.data_dir
    database = rig.state.library.catalog._engine
    database.dispose()
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        database.dispose()
        elsewhere.rename(folder)


async def test_every_route_that_needs_the_database_says_that_it_is_unavailable(rig: ApiRig) -> None:
    rig.publish("poet", tenant="default")
    paths = create_app(rig.state).openapi()["paths"]
    with away(rig):
        for path, methods in paths.items():
            for method in methods:
                route = f"{method.upper()} {path}"
                answer = await _ask(rig, route)
                if route in NO_DATABASE:
                    assert answer.status_code == 200, route
                    continue
                assert answer.status_code == 503, (route, answer.text)
                assert answer.json()["error"]["code"] == "storage_unavailable", route
                assert answer.headers["retry-after"] == "5"
    assert (await _ask(rig, "POST /v1/completions")).status_code == 200


async def _ask(rig: ApiRig, route: str) -> httpx2.Response:
    method, path = route.split(" ")
    if route == "POST /v1/adapters":
        return await rig.client.post(path, data={"name": "poet"}, files={"file": b"not much"})
    if route == "POST /v1/files":
        return await rig.client.post(path, data={"purpose": "batch"}, files={"file": b"not much"})
    if route == "POST /v1/uploads/{upload_id}/parts":
        return await rig.client.post(path.format(**NAMES), files={"data": b"not much"})
    return await rig.client.request(method, path.replace(":path", "").format(**NAMES), json=BODIES.get(route))


async def test_a_stream_of_an_adapter_ends_well_and_is_counted_while_the_database_is_unavailable(rig: ApiRig) -> None:
    rig.publish("poet", tenant="default")
    rig.engine.answering = False
    body = {"model": "poet", "prompt": "x", "max_tokens": 9, "stream": True}
    asked = asyncio.create_task(rig.client.post("/v1/completions", json=body))
    (message,) = await rig.engine.expect(Generate)
    with away(rig):
        for output in rig.engine.answer(message):
            await rig.engine.send(output)
        answer = await asked
        assert events(answer.text)[-1] == "[DONE]"
        await rig.engine.send(token(1))  # the engine's answers still arrive
        assert rig.state.engine.ready is not None
        async with asyncio.timeout(10):
            while not rig.state.usage.unwritten():  # noqa: ASYNC110 - counted after the last byte
                await asyncio.sleep(0.001)
        with pytest.raises(StorageUnavailable):
            rig.state.usage.flush()
    rig.state.usage.flush()
    usage = (await rig.client.get("/v1/usage?group_by=model")).json()["data"]
    assert [line["model"] for line in usage] == ["poet"]


async def test_the_base_alone_is_refused_too_once_its_tenants_limits_have_to_be_read(rig: ApiRig) -> None:
    with away(rig):
        answer = await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")


async def test_a_response_is_complete_even_if_a_callback_after_it_fails(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.state.limits.change("default", {"tokens_per_minute": 1000}, actor="test")

    async def fails(*_: object) -> None:
        raise ConnectionError("the storage of limits")

    monkeypatch.setattr(type(rig.state.rates), "give_back", fails)
    rig.says("The fox")
    for stream in (False, True):
        body = {"model": BASE, "prompt": "x", "max_tokens": 5, "stream": stream}
        answer = await rig.client.post("/v1/completions", json=body)
        assert answer.status_code == 200
        assert answer.text
    assert rig.state.open_requests.of("default") == 0
