"""Lines go out a window at a time; refusals that pass are waited for, and each line has one answer."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from headmix.config import Settings
from headmix.run_batch.lines import InputLine
from headmix.run_batch.output import Output
from headmix.run_batch.send import Sending

LINES = [InputLine(str(number), "/v1/completions", b'{"n": %d}' % number) for number in range(20)]
SETTINGS = Settings.resolve("http://server", "hm_key", 10.0, 2)


class Paused:
    """Remembers pauses instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def test_no_more_than_the_window_is_open_and_all_are_answered(tmp_path: Path) -> None:
    now = most = 0

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        assert request.headers["authorization"] == "Bearer hm_key"
        return httpx2.Response(200, content=request.content)

    answered: list[int] = []
    with Output(tmp_path / "out.jsonl") as output:
        sending = Sending(SETTINGS, output, 4, lambda: answered.append(1), transport=httpx2.MockTransport(handle))
        await sending.run(LINES)
        assert output.done == {line.custom_id for line in LINES}
    assert (most, len(answered)) == (4, 20)


async def test_a_refusal_that_passes_is_waited_for_and_one_that_does_not_is_an_answer(tmp_path: Path) -> None:
    replies = [
        httpx2.Response(429, headers={"retry-after": "3"}),
        httpx2.Response(503),
        httpx2.Response(429, headers={"x-should-retry": "false"}, json={"error": {}}),
    ]

    async def handle(request: httpx2.Request) -> httpx2.Response:
        return replies.pop(0)

    pause = Paused()
    with Output(tmp_path / "out.jsonl") as output:
        sending = Sending(SETTINGS, output, 1, lambda: None, transport=httpx2.MockTransport(handle), pause=pause)
        await sending.run(LINES[:1])
        assert (output.done, output.failed) == ({"0"}, 1)
    assert pause.seconds == [3.0, 1.0]


async def test_a_server_that_stays_away_ends_the_run_with_its_answers_kept(tmp_path: Path) -> None:
    calls = 0

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={})

    with Output(tmp_path / "out.jsonl") as output:
        sending = Sending(SETTINGS, output, 1, lambda: None, transport=httpx2.MockTransport(handle), pause=Paused())
        with pytest.raises(httpx2.ConnectError):
            await sending.run(LINES)
        assert output.done == {"0"}
    assert calls == 2 + SETTINGS.max_retries
