"""A tenant is charged for what the engine computed, in usage, metrics and limits, whether or not it reads it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from headmix_server.core.messages import (
    Abort,
    Classified,
    Classify,
    Failed,
    Generate,
    Output,
    ToEngine,
    TokenOutput,
)
from headmix_server.core.types import FinishReason, TokenCounts
from headmix_server.engine_client.computed import Computed
from headmix_server.tenancy.limits.rates import Rates
from tests.support.clocks.fake_clock import FakeClock
from tests.support.sse import read_events

URL = "/v1/completions"
MINUTE = 10_000


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    settings = {"limit_tokens_per_minute": MINUTE}
    async with api_rig(base_folder, tmp_path, rates=Rates(clock=FakeClock()), settings=settings) as running:
        running.publish("tone", labels=("a", "b"))
        yield running


def body(**params: Any) -> dict[str, Any]:
    return {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 50, **params}


async def charged(rig: ApiRig) -> tuple[int, int, int]:
    """Return the requests, prompt tokens and generated tokens charged, once no request is open any more.

    Usage, metrics and the minute must agree.
    """
    while rig.state.open_requests.of(TENANT):  # noqa: ASYNC110 - the server signals nothing
        await asyncio.sleep(0.005)
    await rig.client.get("/healthz")  # the request's line and counts come after its last byte
    rig.state.usage.flush()
    lines = (await rig.client.get("/v1/usage")).json()["data"]
    requests, prompt, generated, cached = (
        sum(line[name] for line in lines)
        for name in ("requests", "prompt_tokens", "generation_tokens", "cached_tokens")
    )
    metrics = rig.state.metrics
    models = ("", "tone")
    assert sum(metrics.prompt_tokens.labels(TENANT, model)._value.get() for model in models) == prompt
    assert sum(metrics.generation_tokens.labels(TENANT, model)._value.get() for model in models) == generated
    remaining = (await rig.state.rates.take(TENANT, "tokens", 0, MINUTE)).remaining
    assert MINUTE - remaining == prompt + generated
    assert cached <= prompt
    return requests, prompt, generated


def token(message: Generate, *tokens: int, reason: FinishReason | None = None) -> TokenOutput:
    return TokenOutput(request_id=message.request_id, tokens=list(tokens), finish_reason=reason)


def refuse(code: str, **counts: int) -> Callable[[ToEngine], Sequence[Output]]:
    def answer(message: ToEngine) -> Sequence[Output]:
        if not isinstance(message, Generate | Classify):
            return []
        return [Failed(request_id=message.request_id, code=code, message="no", counts=TokenCounts(**counts))]

    return answer


async def test_what_a_client_never_reads_is_charged_like_what_it_reads(rig: ApiRig) -> None:
    rig.engine.reply = [5] * 240
    payload = body(n=16, max_tokens=240, stream=True, logprobs=20, ignore_eos=True)
    request = rig.client.build_request("POST", URL, json=payload)
    head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.keys[TENANT]}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(request.content)}\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(rig.url.rpartition(":")[2])))
        client.sendall(head.encode() + request.content)
        await rig.engine.expect(Generate, 16)
        while rig.state.engine.open_requests:  # noqa: ASYNC110 - the server signals nothing
            await asyncio.sleep(0.005)
        assert rig.state.open_requests.of(TENANT) == 1  # the stream waits for its reader
    assert rig.engine.of(Abort) == []
    assert await charged(rig) == (1, 3, 16 * 240)


async def test_a_stop_string_ends_the_engines_work_though_nobody_reads(rig: ApiRig) -> None:
    rig.engine.answering = False
    async with rig.client.stream("POST", URL, json=body(stream=True, stop=["fox"])) as response_opening:
        (message,) = await rig.engine.expect(Generate)
        tokens = rig.encode("The quick brown fox jumps")
        await rig.engine.send(*(token(message, number) for number in tokens))
        assert await rig.engine.expect(Abort)
        events = [event async for event in read_events(response_opening)]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "The quick brown "
    ended = len(rig.encode("The quick brown fox"))
    assert await charged(rig) == (1, 3, ended)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_that_a_stop_string_ends_is_charged_as_its_usage_says(rig: ApiRig, stream: bool) -> None:
    rig.says("The quick brown fox jumps over the lazy dog")
    options = {"stream_options": {"include_usage": True}} if stream else {}
    response = await rig.client.post(URL, json=body(stop=["fox"], stream=stream, n=2, **options))
    assert f'"completion_tokens":{2 * len(rig.encode("The quick brown fox"))}' in response.text
    assert await charged(rig) == (1, 3, 2 * len(rig.encode("The quick brown fox")))


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_is_charged_what_was_computed_until_the_engine_stopped(rig: ApiRig, stream: bool) -> None:
    rig.engine.answering = rig.engine.stopping = False
    task = asyncio.create_task(rig.client.post(URL, json=body(stream=stream)))
    (message,) = await rig.engine.expect(Generate)
    await rig.engine.send(token(message, 5, 6))
    await asyncio.sleep(0.02)
    task.cancel()
    await rig.engine.expect(Abort)
    await rig.engine.send(token(message, 7))  # in progress at the time of the abort
    await rig.engine.stop(message.request_id, TokenCounts(prompt=3, cached=2, generated=4))
    assert await charged(rig) == (1, 3, 4)


async def test_who_leaves_before_the_first_token_is_charged_the_part_of_the_prompt_that_was_read(rig: ApiRig) -> None:
    rig.engine.answering = rig.engine.stopping = False
    task = asyncio.create_task(rig.client.post(URL, json=body(prompt=[5] * 100)))
    (message,) = await rig.engine.expect(Generate)
    task.cancel()
    await rig.engine.expect(Abort)
    await rig.engine.stop(message.request_id, TokenCounts(prompt=64, cached=16))
    assert await charged(rig) == (1, 64, 0)
    (line,) = (await rig.client.get("/v1/usage")).json()["data"]
    assert line["cached_tokens"] == 16


async def test_who_leaves_the_queue_is_charged_nothing_and_made_no_request(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json=body()))
    await rig.engine.expect(Generate)
    task.cancel()
    await rig.engine.aborted()
    assert await charged(rig) == (0, 0, 0)


@pytest.mark.parametrize("code", ["server_overloaded", "context_length_exceeded", "model_not_found"])
async def test_what_the_engine_refuses_never_reached_the_model(rig: ApiRig, code: str) -> None:
    rig.engine.answer = refuse(code)
    for payload in (body(), body(stream=True), body(n=2, prompt=[[5], [6]])):
        assert (await rig.client.post(URL, json=payload)).json()["error"]["code"] == code
    assert (await rig.client.post("/v1/classify", json={"model": "tone", "input": ["a", "b"]})).status_code >= 400
    assert await charged(rig) == (0, 0, 0)


async def test_what_had_been_computed_for_a_request_that_failed_is_charged(rig: ApiRig) -> None:
    rig.engine.answer = refuse("internal_error", prompt=2, generated=0)
    assert (await rig.client.post(URL, json=body())).status_code == 500
    assert await charged(rig) == (1, 2, 0)


async def test_one_choice_that_fails_ends_the_others_and_all_are_charged(rig: ApiRig) -> None:
    rig.engine.answering = rig.engine.stopping = False
    task = asyncio.create_task(rig.client.post(URL, json=body(n=3)))
    first, second, third = await rig.engine.expect(Generate, 3)
    await rig.engine.send(token(first, 5), token(second, 5, 6))
    failure = Failed(
        request_id=first.request_id, code="internal_error", message="", counts=TokenCounts(prompt=3, generated=1)
    )
    await rig.engine.send(failure)
    await rig.engine.expect(Abort, 2)
    assert not task.done()
    await rig.engine.stop(second.request_id, TokenCounts(prompt=3, generated=3))
    await rig.engine.stop(third.request_id, TokenCounts(prompt=3, generated=1))
    assert (await task).status_code == 500
    assert await charged(rig) == (1, 3, 1 + 3 + 1)


async def test_texts_to_classify_are_charged_one_by_one(rig: ApiRig) -> None:
    rig.engine.answering = rig.engine.stopping = False
    payload = {"model": "tone", "input": ["The quick", "brown fox", "jumps over"]}
    task = asyncio.create_task(rig.client.post("/v1/classify", json=payload))
    done, going, queued = await rig.engine.expect(Classify, 3)
    await rig.engine.send(Classified(request_id=done.request_id, probs=[0.5, 0.5]))
    await asyncio.sleep(0.02)
    task.cancel()
    await rig.engine.expect(Abort, 2)
    await rig.engine.stop(going.request_id, TokenCounts(prompt=1))
    await rig.engine.stop(queued.request_id)
    assert await charged(rig) == (1, len(done.prompt) + 1, 0)


async def test_an_engine_that_dies_before_its_account_keeps_nobody_waiting(rig: ApiRig) -> None:
    rig.engine.answering = rig.engine.stopping = False
    task = asyncio.create_task(rig.client.post(URL, json=body()))
    (message,) = await rig.engine.expect(Generate)
    await rig.engine.send(token(message, 5, 6))
    await asyncio.sleep(0.02)
    task.cancel()
    await rig.engine.expect(Abort)
    rig.state.engine.detach("it died")
    assert await charged(rig) == (1, 3, 2)


async def test_what_the_engine_tells_after_the_end_of_a_completion_does_not_count() -> None:
    computed = Computed(3)
    computed.add(TokenOutput(request_id="r", tokens=[1]))  # not open: for no request
    assert computed.counts == TokenCounts()
    computed.open()
    computed.add(TokenOutput(request_id="r", tokens=[1, 2, 3], cached_tokens=1))
    computed.end_after(2)
    computed.add(TokenOutput(request_id="r", tokens=[4]))
    computed.update(TokenCounts(prompt=3, generated=9))
    await computed.final()
    assert computed.counts == TokenCounts(prompt=3, cached=1, generated=2)
