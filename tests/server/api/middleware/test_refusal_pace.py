"""A client that is refused again and again waits for its responses, and nobody else does."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from harness.server.api_rig import BASE, TENANT, api_rig
from headmix_server.api.middleware.refusal_pace import BYTES_OF_ONE, MOST_SECONDS, PacedRefusals, RefusalPace
from headmix_server.api.middleware.request_record import start_record
from tests.support.clocks.fake_clock import FakeClock
from tests.support.clocks.waiting import until

UNKNOWN = {"model": "nobody", "prompt": "x"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_seconds_worth_goes_out_at_once_and_the_rest_one_by_one(clock: FakeClock) -> None:
    pace = RefusalPace(4, clock=clock)
    assert [pace.take("a") for _ in range(8)] == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75]


def test_parties_do_not_wait_for_each_other(clock: FakeClock) -> None:
    pace = RefusalPace(1, clock=clock)
    assert [pace.take("a") for _ in range(4)] == [0, 0, 1, 2]
    assert pace.take("b") == 0


def test_a_party_that_stops_is_answered_at_once_again(clock: FakeClock) -> None:
    pace = RefusalPace(1, clock=clock)
    for _ in range(4):
        pace.take("a")
    clock.now += 4
    assert [pace.take("a") for _ in range(3)] == [0, 0, 1]


def test_no_answer_waits_forever_however_many_wait_before_it(clock: FakeClock) -> None:
    pace = RefusalPace(1, clock=clock)
    assert max(pace.take("a") for _ in range(1000)) == MOST_SECONDS
    clock.now += MOST_SECONDS + 1
    assert pace.take("a") == 0


def test_a_large_body_counts_for_several(clock: FakeClock) -> None:
    pace = RefusalPace(4, clock=clock)
    assert pace.take("a", 7 * BYTES_OF_ONE) == 0
    assert pace.take("a") == 1


def test_without_a_rate_nothing_waits(clock: FakeClock) -> None:
    pace = RefusalPace(0, clock=clock)
    assert not any(pace.take("a", BYTES_OF_ONE) for _ in range(100))


def test_the_number_of_remembered_parties_is_bounded(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix_server.api.middleware.refusal_pace._MOST_REMEMBERED", 2)
    pace = RefusalPace(1, clock=clock)
    for _ in range(3):
        pace.take("a")
    pace.take("b")
    assert pace.take("a") == 2  # and so is the last one
    pace.take("c")
    assert pace.take("a") == 3
    pace.take("d")
    pace.take("e")
    assert pace.take("a") == 0


async def _refused(client: httpx2.AsyncClient, status: int) -> None:
    answer = await client.post("/v1/completions", json=UNKNOWN)
    assert answer.status_code == status


async def _answered(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/v1/completions", json={"model": BASE, "prompt": "x"})).status_code == 200


async def test_a_waiting_refusal_holds_nothing_and_delays_no_other(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"limit_refusals_per_second": 2}) as rig:
        refused = [asyncio.create_task(_refused(rig.client, 404)) for _ in range(9)]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        await _answered(rig.client)  # the same tenant's other requests go on
        await _refused(rig.other, 404)
        await until(lambda: rig.state.open_on_any_route.of(TENANT) == 0)
        assert not all(task.done() for task in refused)
        await asyncio.gather(*refused)


async def test_answers_without_a_key_are_paced_by_address_and_keys_from_there_are_not(
    base_folder: Path, tmp_path: Path
) -> None:
    async with (
        api_rig(base_folder, tmp_path, settings={"limit_refusals_per_second": 2}) as rig,
        httpx2.AsyncClient(base_url=rig.url) as nobody,
    ):
        paths = ["/metrics", "/healthz", "/v1/models", "/nowhere"] * 2
        asked = [asyncio.create_task(nobody.get(path)) for path in paths]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await _answered(rig.client)
        await _refused(rig.client, 404)
        assert not all(task.done() for task in asked)
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200, 200, 401, 404] * 2


async def _refuse(refusals: PacedRefusals, scope: Scope, receive: Receive, send: Send) -> None:
    start_record(scope, "req_1")
    answer = refusals.answer_to(scope, send)
    await PlainTextResponse("no", status_code=404)(scope, receive, answer.send)
    await answer.release()


async def test_answers_that_wait_leave_connections_to_others() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    def ask() -> Coroutine[Any, Any, None]:
        return _refuse(refusals, {"type": "http", "client": ("203.0.113.7", 1)}, receive, send)

    pace = RefusalPace(1)
    for _ in range(100):
        pace.take("address:203.0.113.7")
    refusals = PacedRefusals(pace, most_waiting=1)
    waits = asyncio.create_task(ask())
    await asyncio.sleep(0)
    assert not sent
    await ask()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert not waits.done()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
