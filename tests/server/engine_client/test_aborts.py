"""A consumer that goes away aborts its request, and what the engine still computes for it is counted."""

import asyncio

import pytest

from harness.server.fake_engine import FakeEngine
from headmix_server.core.messages import Abort, Failed, Generate, Output, TokenOutput
from headmix_server.core.types import FinishReason, TokenCounts
from headmix_server.engine_client.client import EngineClient
from headmix_server.engine_client.computed import Computed
from tests.support.engine_messages import collect, request, token


async def test_a_consumer_that_stops_early_aborts_the_engine_request(client: EngineClient, engine: FakeEngine) -> None:
    outputs = client.generate(request())
    first = asyncio.ensure_future(anext(outputs))
    await engine.expect(Generate)
    await engine.send(token(1))
    await first
    await outputs.aclose()
    assert await engine.expect(Abort) == [Abort(request_id="r")]
    await engine.send(token(2))  # sent before the abort arrived: for no request
    assert client.open_requests == 0


async def test_what_comes_for_an_aborted_request_counts_until_the_engine_has_stopped(
    client: EngineClient, engine: FakeEngine
) -> None:
    engine.stopping = False
    computed = Computed(1)
    outputs = client.generate(request(), computed)
    first = asyncio.ensure_future(anext(outputs))
    await engine.expect(Generate)
    await engine.send(token(1))
    await first
    await outputs.aclose()
    await engine.expect(Abort)
    final = asyncio.create_task(computed.final())
    await engine.send(token(2))
    await engine.stop("another")
    await asyncio.sleep(0.01)
    assert not final.done()
    await engine.stop("r", TokenCounts(prompt=1, generated=3))
    await final
    assert computed.counts == TokenCounts(prompt=1, generated=3)


@pytest.mark.parametrize(
    "ends", [token(2, FinishReason.STOP), Failed(request_id="r", code="internal_error", message="")]
)
async def test_an_aborted_request_that_has_ended_meanwhile_needs_no_account(
    client: EngineClient, engine: FakeEngine, ends: Output
) -> None:
    engine.stopping = False
    computed = Computed(1)
    task = asyncio.create_task(anext(client.generate(request(), computed)))
    await engine.expect(Generate)
    task.cancel()
    await engine.expect(Abort)
    await engine.send(ends)
    await computed.final()
    assert computed.counts.generated == (1 if isinstance(ends, TokenOutput) else 0)


async def test_the_counts_of_what_was_open_or_aborted_are_final_when_the_engine_is_gone(
    client: EngineClient, engine: FakeEngine
) -> None:
    engine.stopping = False
    opened, aborted, never = Computed(1), Computed(1), Computed(1)
    tasks = [
        asyncio.create_task(anext(client.generate(request(name), counts)))
        for name, counts in (("a", opened), ("b", aborted))
    ]
    await engine.expect(Generate, 2)
    tasks[1].cancel()
    await engine.expect(Abort)
    client.detach("it died")
    for counts in (opened, aborted, never):
        await counts.final()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cancelled_consumer_aborts_the_engine_request(client: EngineClient, engine: FakeEngine) -> None:
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    task.cancel()
    assert await engine.expect(Abort) == [Abort(request_id="r")]
