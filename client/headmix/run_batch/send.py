"""Sends a batch's lines to a server, a window of them at once; refusals that pass are waited for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import httpx2

from headmix.config import Settings
from headmix.run_batch.lines import InputLine
from headmix.run_batch.output import Output

_PASSES = frozenset({429, 503})
LONGEST_PAUSE = 30.0


class Sending:
    """The lines of one run. `on_answer` is called after each answer; `pause` waits so many seconds."""

    def __init__(
        self,
        settings: Settings,
        output: Output,
        window: int,
        on_answer: Callable[[], None],
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._output = output
        self._window = window
        self._on_answer = on_answer
        self._transport = transport
        self._pause = pause

    async def run(self, lines: Iterable[InputLine]) -> None:
        """Answer all lines into the output.

        Raises:
            httpx2.TransportError: the server cannot be reached, attempt after attempt.
        """
        limits = httpx2.Limits(max_connections=self._window, max_keepalive_connections=self._window)
        async with httpx2.AsyncClient(
            base_url=self._settings.base_url,
            headers=self._settings.headers(),
            timeout=self._settings.timeout,
            limits=limits,
            transport=self._transport,
            trust_env=self._settings.minds_proxies,
        ) as client:
            waiting = iter(lines)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._window):
                        group.create_task(self._work(client, waiting))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _work(self, client: httpx2.AsyncClient, waiting: Iterable[InputLine]) -> None:
        for line in waiting:
            response = await self._answer(client, line)
            request_id = response.headers.get("x-request-id")
            self._output.add(line.custom_id, response.status_code, request_id, response.content)
            self._on_answer()

    async def _answer(self, client: httpx2.AsyncClient, line: InputLine) -> httpx2.Response:
        failures = 0
        while True:
            try:
                response = await client.post(line.url, content=line.body, headers={"content-type": "application/json"})
            except httpx2.TransportError:
                failures += 1
                if failures > self._settings.max_retries:
                    raise
                await self._pause(min(LONGEST_PAUSE, 2.0**failures))
                continue
            if response.status_code not in _PASSES or response.headers.get("x-should-retry") == "false":
                return response
            await self._pause(_pause_of(response))


def _pause_of(response: httpx2.Response) -> float:
    given = response.headers.get("retry-after", "")
    return min(LONGEST_PAUSE, float(given)) if given.isdecimal() else 1.0
