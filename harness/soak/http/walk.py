"""The walk over HTTP: concurrent tenants, a real server with few slots and a small cache, and an engine that is killed.

Each client has its own names and a registry of what each must answer, while all share one engine's batches.
Responses become tracked requests and are checked like any other. Timing depends on the machine, so a seed determines
what each client does, but not how their requests interleave.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from harness.bases.families import FAMILIES
from harness.memory import resident_mib
from harness.server.running_server import running_server
from harness.soak.contents import Contents
from harness.soak.http.client import HttpEnvironment, HttpReport, WalkingClient
from harness.soak.http.tenant import PATIENCE_SECONDS, Vocabulary
from harness.soak.operations import expect
from harness.soak.oracle import Oracle
from headmix_adapters.base import resolve_base
from headmix_server.text.tokenizer import load_tokenizer

CLIENTS = 6
SAMPLE_SECONDS = 5.0
GRACE_SECONDS = 2.0
"""How long after a new engine is ready a client may still read that the old one died."""


class HttpWalk:
    """Several clients on one server, whose engine is killed now and then."""

    def __init__(self, environment: HttpEnvironment) -> None:
        self._environment = environment
        self._began = time.monotonic()

    async def run(self, goes_on: Callable[[int], bool], *, kill_every: float | None = None) -> HttpReport:
        """Walk while `goes_on(operations so far)`, then check that the server is at rest.

        If an interval in seconds is given, the engine is killed that often.

        Raises:
            WrongAnswerError: anything is wrong; the message has the seed and what that client did last.
        """
        self._environment.goes_on = goes_on
        clients = [WalkingClient(self._environment, number) for number in range(CLIENTS)]
        others = [asyncio.ensure_future(self._sample())]
        if kill_every is not None:
            others.append(asyncio.ensure_future(self._kill(kill_every)))
        try:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.walk())
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await self._check_at_rest()
        return self._environment.report

    async def _sample(self) -> None:
        while True:
            now = time.monotonic() - self._began
            self._environment.report.api_memory.append((now, resident_mib(self._environment.server.process.pid)))
            if not self._environment.kills_under_way:
                pid = await asyncio.to_thread(self._environment.server.engine_pid)
                self._environment.report.engine_memory.append((now, resident_mib(pid)))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _kill(self, seconds: float) -> None:
        """Kill the engine now and then; until another is ready, requests may be refused, but never answered wrongly."""
        while True:
            await asyncio.sleep(seconds)
            self._environment.kills_under_way = True
            os.kill(await asyncio.to_thread(self._environment.server.engine_pid), signal.SIGKILL)
            self._environment.report.kills += 1
            await asyncio.sleep(0.5)
            await asyncio.to_thread(self._environment.server.wait_ready)
            await asyncio.sleep(GRACE_SECONDS)
            self._environment.kills_under_way = False

    async def _check_at_rest(self) -> None:
        async with httpx2.AsyncClient(
            base_url=self._environment.server.base_url, headers=self._environment.server.headers
        ) as http:
            wanted = {'headmix_adapter_slots{state="leased"}': 0.0, "headmix_requests_running": 0.0}
            wanted |= {"headmix_requests_waiting": 0.0}
            end = time.monotonic() + PATIENCE_SECONDS
            while True:
                lines = (await http.get("/metrics")).text.splitlines()
                found = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[:1] != "#"}
                state = {name: found.get(name) for name in wanted}
                if state == wanted or time.monotonic() > end:
                    break
                await asyncio.sleep(0.3)
        expect("the server at rest", state, wanted)


@contextmanager
def served(folder: Path, seed: int) -> Iterator[HttpEnvironment]:
    """Run `headmix serve` on a tiny random base with scarce resources, next to the oracle with the same weights."""
    family = FAMILIES["llama"]
    family.write_tokenizer(folder / "base")
    tokenizer = load_tokenizer(folder / "base")
    family.make(folder / "base", {"vocab_size": tokenizer.vocab_size, "tie_word_embeddings": True})
    base = resolve_base(str(folder / "base"))
    with running_server(
        folder,
        base=folder / "base",
        runner="torch",
        threads=1,
        adapter_slots=3,
        host_adapters=2,
        kv_cache_mib=1,
        block_size=4,
        max_batch_tokens=48,
        max_running=8,
        engine_restarts=10_000,
        limit_management_per_minute=0,
    ) as server:
        contents, oracle = Contents(folder / "contents", base.shape), Oracle(base.folder, frozenset())
        yield HttpEnvironment(seed, server, contents, oracle, tokenizer, Vocabulary(tokenizer))
