import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from harness.server.fake_engine import READY, FakeEngine
from headmix_server.core.errors import (
    ContextLengthExceeded,
    EngineUnavailable,
    HeadmixServerError,
    InternalError,
    ServerOverloaded,
)
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    Classified,
    Classify,
    EngineReport,
    Failed,
    ForgetAdapter,
    Generate,
    LoadAdapter,
    Outputs,
    ResidentAdapter,
    Shutdown,
)
from headmix_server.core.types import AdapterRef, FinishReason, Residency, SamplingParams
from headmix_server.engine_client.client import EngineClient, EngineState
from tests.support.engine_messages import REF, collect, request, token

OTHER = AdapterRef(digest="sha256:" + "1" * 64, base="b", path="q", name="o", version=1, tenant="t")


def report(running: int, resident: list[ResidentAdapter] | None = None) -> EngineReport:
    return EngineReport(
        running=running,
        waiting=0,
        kv_usage=0.0,
        slots_free=0,
        slots_leased=0,
        slots_idle=0,
        slots_loading=0,
        resident=resident,
    )


async def test_outputs_reach_the_request_they_belong_to_and_no_other(client: EngineClient, engine: FakeEngine) -> None:
    first = asyncio.create_task(collect(client, request("a")))
    second = asyncio.create_task(collect(client, request("b")))
    await engine.expect(Generate, 2)
    await engine.send(token(1, request_id="a"), token(2, request_id="b"))
    await engine.send(token(4, FinishReason.LENGTH, "b"), token(3, FinishReason.STOP, "a"))
    assert await first == [1, 3]
    assert await second == [2, 4]
    assert engine.of(Abort) == []
    assert client.open_requests == 0


async def test_the_first_token_is_there_before_the_last_is_made(client: EngineClient, engine: FakeEngine) -> None:
    outputs = client.generate(request())
    first = asyncio.ensure_future(anext(outputs))
    await engine.expect(Generate)
    await engine.send(token(1))
    assert (await first).tokens == [1]
    await engine.send(token(2, FinishReason.STOP))
    assert [output.tokens async for output in outputs] == [[2]]


async def test_a_request_that_cannot_be_sent_is_not_left_open(client: EngineClient, engine: FakeEngine) -> None:
    unsendable = Generate(
        request_id="r", tenant="t", prompt=[2**64], adapter=None, sampling=SamplingParams(max_tokens=4)
    )
    with pytest.raises(OverflowError):
        await collect(client, unsendable)
    assert client.open_requests == 0


async def test_nothing_follows_a_terminal_message(client: EngineClient, engine: FakeEngine) -> None:
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    await engine.send(token(1, FinishReason.STOP), token(2), Failed(request_id="r", code="internal_error", message=""))
    assert await task == [1]


@pytest.mark.parametrize(
    ("code", "kind"), [("context_length_exceeded", ContextLengthExceeded), ("what is this", InternalError)]
)
async def test_a_failure_is_raised_as_the_error_its_code_names(
    client: EngineClient, engine: FakeEngine, code: str, kind: type[HeadmixServerError]
) -> None:
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    await engine.send(Failed(request_id="r", code=code, message="why"))
    with pytest.raises(kind, match="why"):
        await task


async def test_one_request_too_many_is_refused_and_told_when_to_come_back(
    client: EngineClient, engine: FakeEngine
) -> None:
    tasks = [asyncio.create_task(collect(client, request(name))) for name in "ab"]
    await engine.expect(Generate, 2)
    with pytest.raises(ServerOverloaded) as refused:
        await collect(client, request("c"))
    assert refused.value.retry_after == 1
    await engine.send(token(1, FinishReason.STOP, "a"))
    await tasks[0]
    tasks.append(asyncio.create_task(collect(client, request("c"))))
    await engine.expect(Generate, 3)
    for task in tasks:
        task.cancel()


async def test_a_tenant_that_floods_does_not_keep_another_out(client: EngineClient, engine: FakeEngine) -> None:
    tasks = [asyncio.create_task(collect(client, request(name))) for name in "ab"]
    await engine.expect(Generate, 2)
    tasks.append(asyncio.create_task(collect(client, msgspec.structs.replace(request("c"), tenant="other"))))
    await engine.expect(Generate, 3)
    with pytest.raises(ServerOverloaded):
        await collect(client, request("d"))
    for task in tasks:
        task.cancel()


async def test_a_dead_engine_fails_every_open_request_with_the_reason(client: EngineClient, engine: FakeEngine) -> None:
    generation = asyncio.create_task(collect(client, request("a")))
    classification = asyncio.create_task(
        client.ask(Classify(request_id="b", tenant="t", prompt=[1], adapter=REF), Classified)
    )
    await engine.expect(Classify)
    client.detach("the engine died of signal 9")
    for task in (generation, classification):
        with pytest.raises(EngineUnavailable, match="signal 9"):
            await task
    assert client.state is EngineState.DOWN
    with pytest.raises(EngineUnavailable, match="signal 9"):
        await collect(client, request())


async def test_another_engine_takes_over_on_another_endpoint(
    client: EngineClient, engine: FakeEngine, tmp_path: Path
) -> None:
    client.detach("gone")
    client.attach(f"ipc://{tmp_path}/second")
    assert (client.state, client.reason) == (EngineState.STARTING, "the engine is starting")
    with pytest.raises(EngineUnavailable, match="starting"):
        await collect(client, request())
    async with FakeEngine(f"ipc://{tmp_path}/second") as second:
        second.reply = [5]
        assert await client.wait_ready() == READY
        assert client.state is EngineState.READY
        assert await collect(client, request()) == [5, 2]
    assert engine.of(Generate) == []


async def test_an_unreadable_frame_fails_what_is_open_instead_of_letting_it_wait(
    client: EngineClient, engine: FakeEngine
) -> None:
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    await engine.send_bytes(b"\xc1")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        await task
    assert client.state is EngineState.DOWN


async def test_observers_that_fail_neither_lose_the_engine_nor_keep_its_messages_from_others(endpoint: str) -> None:
    def fails(*_: object) -> None:
        raise ConnectionError("a dependency is away")

    client = EngineClient(max_open=1, on_report=fails)
    client.watch_ready(fails)
    connection = client.attach(endpoint)
    with capture_logs() as logs:
        async with FakeEngine(endpoint) as engine:
            engine.answering = False
            await client.wait_ready()
            task = asyncio.create_task(collect(client, request()))
            await engine.expect(Generate)
            await engine.say(Outputs(items=[token(1)], report=report(running=1)))
            await engine.send(token(2, FinishReason.STOP))
            assert await task == [1, 2]
    assert client.state is EngineState.READY
    assert not connection.lost.done()
    assert [entry["news"] for entry in logs] == ["the engine is ready", "the engine reported"]
    client.detach("over")
    assert connection.lost.result() == "over"


async def test_telling_an_engine_that_is_gone_to_stop_waits_for_nobody(client: EngineClient, endpoint: str) -> None:
    async with FakeEngine(endpoint):
        await client.wait_ready()
    client.shutdown()
    client.detach("gone")


async def test_classifying_and_loading_return_their_answers(client: EngineClient, engine: FakeEngine) -> None:
    engine.answering, engine.probs = True, [0.25, 0.75]
    scores = await client.ask(Classify(request_id="c", tenant="t", prompt=[1], adapter=REF), Classified)
    assert scores == Classified(request_id="c", probs=[0.25, 0.75], queue_seconds=0.25)
    loaded = await client.ask(LoadAdapter(request_id="l", adapter=REF), AdapterLoaded)
    assert loaded.digest == REF.digest


async def test_an_answer_of_another_kind_fails_its_request_instead_of_letting_it_wait(
    client: EngineClient, engine: FakeEngine
) -> None:
    asked = [
        asyncio.create_task(collect(client, request())),
        asyncio.create_task(client.ask(LoadAdapter(request_id="l", adapter=REF), AdapterLoaded)),
    ]
    await engine.expect(Generate)
    await engine.expect(LoadAdapter)
    await engine.send(Classified(request_id="r", probs=[1.0]), Classified(request_id="l", probs=[1.0]))
    for one in asked:
        with pytest.raises(InternalError, match="Classified"):
            await one
    classifying = asyncio.create_task(
        client.ask(Classify(request_id="c", tenant="t", prompt=[1], adapter=REF), Classified)
    )
    await engine.expect(Classify)
    await engine.send(token(1, request_id="c"))
    with pytest.raises(InternalError, match="TokenOutput"):
        await classifying
    assert client.open_requests == 0


async def test_forgetting_and_shutting_down_reach_the_engine(client: EngineClient, engine: FakeEngine) -> None:
    client.forget(REF.digest)
    await engine.expect(ForgetAdapter)
    client.shutdown()
    await engine.expect(Shutdown)
    assert engine.received == [ForgetAdapter(digest=REF.digest), Shutdown()]


async def test_forgetting_may_be_told_by_any_thread_and_before_there_is_an_engine(
    client: EngineClient, engine: FakeEngine
) -> None:
    await asyncio.to_thread(client.forget, REF.digest)
    assert await engine.expect(ForgetAdapter) == [ForgetAdapter(digest=REF.digest)]
    EngineClient(max_open=1).forget(REF.digest)


async def test_a_draining_client_finishes_what_is_open_and_refuses_the_rest(
    client: EngineClient, engine: FakeEngine
) -> None:
    task = asyncio.create_task(collect(client, request()))
    await engine.expect(Generate)
    client.drain()
    assert client.state is EngineState.DRAINING
    with pytest.raises(ServerOverloaded):
        await collect(client, request("late"))
    idle = asyncio.create_task(client.wait_idle())
    await asyncio.sleep(0)
    assert not idle.done()
    await engine.send(token(1, FinishReason.STOP))
    assert await task == [1]
    await idle


async def test_reports_are_passed_on_and_residency_is_kept(endpoint: str) -> None:
    reports: asyncio.Queue[EngineReport] = asyncio.Queue()
    client = EngineClient(max_open=1, on_report=reports.put_nowait)
    client.attach(endpoint)
    async with FakeEngine(endpoint) as engine:
        await client.wait_ready()
        before = time.monotonic()
        resident = [ResidentAdapter(digest=REF.digest, tier=Residency.HOST, tenants=["t", "u"])]
        await engine.say(report(running=3, resident=resident))
        await engine.say(Outputs(items=[], report=report(running=4)))
        assert [(await reports.get()).running for _ in range(2)] == [3, 4]
    assert client.resident == {("t", REF.digest): Residency.HOST, ("u", REF.digest): Residency.HOST}
    assert client.last_heard >= before
    client.detach("over")
    assert client.resident == {}
