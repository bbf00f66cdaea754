"""An adapter is held from the moment its name is resolved until its request has ended, however it ends."""

import asyncio
from typing import Any

import pytest

from harness.server.api_rig import ApiRig
from harness.server.fake_engine import generated
from headmix_server.core.messages import Abort, Classified, Classify, Embed, Failed, ForgetAdapter, Generate, ToEngine
from headmix_server.core.types import AdapterRef

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "poet", "prompt": "Once"},
    "/v1/chat/completions": {"model": "poet", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/classify": {"model": "tone", "input": ["a", "b"]},
    "/v1/embeddings": {"model": "poet", "input": "a"},
}


def publish(rig: ApiRig) -> None:
    rig.publish("poet", b"the poet")
    rig.publish("tone", b"the tone", labels=("a", "b"))
    rig.engine.probs, rig.engine.vector = [0.5, 0.5], [1.0]


async def settled(rig: ApiRig) -> None:
    """Wait until every request has ended and its cleanup is done."""
    async with asyncio.timeout(10):
        while rig.state.library.holds.digests:  # noqa: ASYNC110 - a request's cleanup signals nothing
            await asyncio.sleep(0.001)
    await asyncio.to_thread(rig.state.library.drain)


async def test_a_queued_request_finishes_with_its_own_adapter_though_it_is_deleted_and_the_bytes_go_with_it(
    rig: ApiRig,
) -> None:
    publish(rig)
    rig.engine.answering = False
    waiting = asyncio.create_task(rig.client.post("/v1/completions", json=REQUESTS["/v1/completions"]))
    (message,) = await rig.engine.expect(Generate)
    ref = message.adapter
    assert isinstance(ref, AdapterRef)
    assert (await rig.client.delete("/v1/adapters/poet")).status_code == 200
    assert (await rig.client.get("/v1/models/poet")).status_code == 404
    rig.publish("poet", b"another poet")
    path = rig.state.settings.data_dir / "artifacts" / ref.path
    assert path.read_bytes() == b"the poet"  # the engine may still have to load it
    assert rig.engine.of(ForgetAdapter) == []
    for output in generated(message, rig.encode("rhyme")):
        await rig.engine.send(output)
    answer = await waiting
    assert (answer.status_code, answer.headers["x-headmix-adapter"]) == (200, f"poet@1 {ref.digest}")
    await settled(rig)
    assert not path.exists()
    assert await rig.engine.expect(ForgetAdapter) == [ForgetAdapter(digest=ref.digest)]


@pytest.mark.parametrize("route", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_good_end_gives_back(rig: ApiRig, route: str, stream: bool) -> None:
    publish(rig)
    body = REQUESTS[route] | ({"stream": True, "n": 2} if stream and "completions" in route else {})
    assert (await rig.client.post(route, json=body)).status_code == 200
    await settled(rig)


@pytest.mark.parametrize("route", REQUESTS)
async def test_a_failure_of_the_engine_gives_back(rig: ApiRig, route: str) -> None:
    publish(rig)

    def fail(message: ToEngine) -> list[Failed]:
        if isinstance(message, Generate | Classify | Embed):
            return [Failed(request_id=message.request_id, code="internal_error", message="broken")]
        return []

    rig.engine.answer = fail
    assert (await rig.client.post(route, json=REQUESTS[route])).status_code == 500
    await settled(rig)


@pytest.mark.parametrize("route", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_gives_back(rig: ApiRig, route: str, stream: bool) -> None:
    publish(rig)
    rig.engine.answering = False
    body = REQUESTS[route] | ({"stream": True} if stream and "completions" in route else {})
    leaving = asyncio.create_task(rig.client.post(route, json=body))
    async with asyncio.timeout(10):
        while not rig.engine.received:  # noqa: ASYNC110 - any kind of request will do
            await asyncio.sleep(0.001)
    leaving.cancel()
    await rig.engine.expect(Abort)
    await settled(rig)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/completions", {"model": "tone", "prompt": "x"}),
        ("/v1/completions", {"model": "poet", "prompt": "x", "max_tokens": 10_000}),
        ("/v1/classify", {"model": "poet", "input": "x"}),
        ("/v1/embeddings", {"model": "poet", "input": [[10**6]]}),
    ],
)
async def test_a_refusal_gives_back(rig: ApiRig, route: str, body: dict[str, Any]) -> None:
    publish(rig)
    assert (await rig.client.post(route, json=body)).status_code == 400
    await settled(rig)


async def test_looking_at_an_adapter_holds_it_no_longer_than_that(rig: ApiRig) -> None:
    publish(rig)
    for path in ("/v1/models/poet", "/v1/adapters/poet@1", "/v1/adapters/poet/file"):
        assert (await rig.client.get(path)).status_code == 200
    assert (await rig.client.post("/v1/adapters/poet/load")).status_code == 200
    await settled(rig)


async def test_an_engine_that_dies_gives_everything_back(rig: ApiRig) -> None:
    publish(rig)
    rig.engine.answering = False
    waiting = asyncio.create_task(rig.client.post("/v1/classify", json=REQUESTS["/v1/classify"]))
    await rig.engine.expect(Classify, 2)
    rig.state.engine.detach("it died")
    assert (await waiting).status_code == 503
    await settled(rig)


async def test_two_requests_share_one_adapter_and_the_second_keeps_it(rig: ApiRig) -> None:
    publish(rig)
    rig.engine.answering = False
    tasks = [asyncio.create_task(rig.client.post("/v1/classify", json=REQUESTS["/v1/classify"])) for _ in range(2)]
    messages = await rig.engine.expect(Classify, 4)
    await rig.client.delete("/v1/adapters/tone")
    first, *rest = sorted(messages, key=lambda message: message.request_id.split(".")[0])
    path = rig.state.settings.data_dir / first.adapter.path

    async def answer(message: Classify) -> None:
        await rig.engine.send(Classified(request_id=message.request_id, probs=[0.5, 0.5]))

    await answer(first)
    await answer(rest[0])
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(rig.state.library.drain)
    assert path.exists()
    for message in rest[1:]:
        await answer(message)
    assert [(await task).status_code for task in tasks] == [200, 200]
    await settled(rig)
    assert not path.exists()
