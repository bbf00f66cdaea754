"""Observers are told when the first request a client waits for opens, and when the last one ends."""

import asyncio

import msgspec
import pytest

from harness.server.fake_engine import FakeEngine
from headmix_server.core.errors import EngineUnavailable, InternalError
from headmix_server.core.messages import AdapterLoaded, Failed, Generate, LoadAdapter
from headmix_server.core.types import FinishReason
from headmix_server.engine_client.client import EngineClient
from tests.support.engine_messages import REF, collect, request, token


async def test_the_first_and_the_last_open_request_are_told(client: EngineClient, engine: FakeEngine) -> None:
    told: list[bool] = []
    client.watch_busy(told.append)
    first = asyncio.create_task(collect(client, request("a")))
    await engine.expect(Generate)
    second = asyncio.create_task(collect(client, request("b")))
    await engine.expect(Generate)
    assert told == [True]
    await engine.send(token(1, FinishReason.STOP, "a"))
    await first
    assert told == [True]
    await engine.send(token(1, FinishReason.STOP, "b"))
    await second
    assert told == [True, False]


async def test_background_requests_make_nobody_busy(client: EngineClient, engine: FakeEngine) -> None:
    told: list[bool] = []
    client.watch_busy(told.append)
    line = asyncio.create_task(collect(client, msgspec.structs.replace(request("line"), background=True)))
    await engine.expect(Generate)
    assert (client.open_requests, told) == (1, [])
    online = asyncio.create_task(collect(client, request("online")))
    await engine.expect(Generate)
    await engine.send(token(1, FinishReason.STOP, "online"))
    await online
    assert (client.open_requests, told) == (1, [True, False])
    await engine.send(token(1, FinishReason.STOP, "line"))
    await line
    assert told == [True, False]


async def test_a_load_that_a_client_waits_for_is_told(client: EngineClient, engine: FakeEngine) -> None:
    told: list[bool] = []
    client.watch_busy(told.append)
    load = asyncio.create_task(client.ask(LoadAdapter(request_id="l", adapter=REF), AdapterLoaded))
    await engine.expect(LoadAdapter)
    assert told == [True]
    await engine.send(Failed(request_id="l", code="internal_error", message=""))
    with pytest.raises(InternalError):
        await load
    assert told == [True, False]


async def test_a_dead_engines_requests_are_no_longer_open(client: EngineClient, engine: FakeEngine) -> None:
    told: list[bool] = []
    client.watch_busy(told.append)
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    client.detach("it was killed")
    with pytest.raises(EngineUnavailable):
        await task
    assert told == [True, False]
