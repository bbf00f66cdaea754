"""What a phase costs the server: the memory of its processes and the lag of its event loop."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
import psutil  # type: ignore[import-untyped]

from harness.server.running_server import RunningServer

MIB = 1 << 20
LAG = re.compile(r'headmix_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')
LAG_BOUND = 0.05
EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """One phase's peak MiB, of the API process and of all processes together, above where they started.

    `late` is the share of the loop's ticks that were late by more than 50 ms; `blocked_ms` is the longest that the loop
    itself computed in such a tick, from the server's log, or 0 if there was none.
    """

    api_mib: float
    all_mib: float
    late: float
    blocked_ms: float


class ServerMonitor:
    """Measures one server, phase by phase."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._api = psutil.Process(server.process.pid)

    async def measure(self, phase: "asyncio.Task[None]") -> ServerUsage:
        """Measure until the phase ends."""
        api, everything = self._memory()
        most_api, most = api, everything
        before, lines = await self._lags(), len(self._blocked())
        while not phase.done():
            await asyncio.wait({phase}, timeout=EVERY_SECONDS)
            now_api, now = await asyncio.to_thread(self._memory)
            most_api, most = max(most_api, now_api), max(most, now)
        after = await self._lags()
        ticks = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
        total = ticks.get("+Inf", 0.0)
        late = total - max((count for bound, count in ticks.items() if float(bound) <= LAG_BOUND), default=total)
        blocked = max(self._blocked()[lines:], default=0.0)
        return ServerUsage(most_api - api, most - everything, late / total if total else 0.0, 1000 * blocked)

    def _memory(self) -> tuple[float, float]:
        api = self._api.memory_info().rss
        rest = 0
        for child in self._api.children(recursive=True):
            try:
                rest += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return api / MIB, (api + rest) / MIB

    async def _lags(self) -> Mapping[str, float]:
        async with httpx2.AsyncClient(headers=self._server.headers, timeout=60) as http:
            text = (await http.get(f"{self._server.base_url}/metrics")).text
        return {bound: float(count) for bound, count in LAG.findall(text)}

    def _blocked(self) -> list[float]:
        """Return for each log line about a blocked loop the lesser of the seconds it was late and computing."""
        events = self._server.events("the event loop was blocked")
        return [min(float(str(event["seconds"])), float(str(event["loop_cpu_seconds"]))) for event in events]
