"""The scene: three tenants on one server, two honest and a third that is honest in one act and hostile in the next.

The acts alternate, so that a noisy minute of the machine falls on both. Everybody has the same limits.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from benchmarks.hostile.attacker import Attacker
from benchmarks.hostile.neighbour import Neighbour
from benchmarks.hostile.tenant import PATIENCE_SECONDS, Tenant, make_tenant
from tests.support.artifacts import malformed_artifacts, tiny_base_shape
from tests.support.server import RunningServer

HONEST = ("ada", "grace", "edsger")
HOSTILE = "mallory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How long and how much: an act in seconds, streams of an honest tenant, requests the hostile one tries at once.

    Each of its attacks pauses `pause_seconds` after an attempt.
    `limits` are every tenant's; `artifacts` make adapters by number, the hostile tenant has `cycled` of them.
    """

    act_seconds: float
    acts: int
    streams: int
    floods: int
    pause_seconds: float
    cycled: int
    questions: int
    max_tokens: int
    limits: dict[str, int]
    artifact: Callable[[int], bytes]
    prompt: Callable[[int], str]


@dataclass(slots=True)
class Outcome:
    """First-token times in seconds of the two who are honest in both acts, and everything that went wrong."""

    with_honest: list[float] = field(default_factory=list)
    with_hostile: list[float] = field(default_factory=list)
    attacks: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Scene:
    """Set up once, then played act by act."""

    def __init__(self, server: RunningServer, base: str, script: Script) -> None:
        self._server = server
        self._base = base
        self._script = script

    async def play(self) -> Outcome:
        """Set the scene, play both acts in turn and return what became of it."""
        headers = self._server.headers
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=self._server.base_url, headers=headers, timeout=PATIENCE_SECONDS, limits=limits
        ) as admin:
            neighbours = [await self._honest(admin, name, number) for number, name in enumerate(HONEST)]
            attacker = await self._hostile(admin)
        outcome = Outcome(attacks=attacker.outcomes)
        for act in range(self._script.acts):
            outcome.with_honest += await self._act(neighbours, None, act)
            outcome.with_hostile += await self._act(neighbours[:2], attacker, act)
        outcome.faults = [fault for tenant in neighbours for fault in tenant.faults] + attacker.faults
        return outcome

    async def _act(self, honest: Sequence[Neighbour], attacker: Attacker | None, act: int) -> list[float]:
        script, url = self._script, self._server.base_url
        until = time.monotonic() + script.act_seconds
        before = [len(tenant.first_tokens) for tenant in honest[:2]]
        async with asyncio.TaskGroup() as group:
            for number, tenant in enumerate(honest):
                group.create_task(tenant.work(url, until, script.streams, act * 10 + number))
            if attacker is not None:
                group.create_task(attacker.attack(url, until, script.floods, act))
        return [
            seconds for tenant, known in zip(honest[:2], before, strict=True) for seconds in tenant.first_tokens[known:]
        ]

    async def _honest(self, admin: httpx2.AsyncClient, name: str, number: int) -> Neighbour:
        script = self._script
        tenant = await make_tenant(admin, name, script.limits)
        adapter = f"task-of-{name}"
        await self._upload(tenant, adapter, script.artifact(number))
        questions: list[dict[str, Any]] = [
            {
                "model": adapter if place % 2 else self._base,
                "prompt": script.prompt(number * 1000 + place),
                "max_tokens": script.max_tokens,
                "temperature": 0,
                "ignore_eos": True,
            }
            for place in range(script.questions)
        ]
        neighbour = Neighbour(tenant, questions)
        await neighbour.learn(self._server.base_url)
        return neighbour

    async def _hostile(self, admin: httpx2.AsyncClient) -> Attacker:
        script = self._script
        tenant = await make_tenant(admin, HOSTILE, script.limits)
        names = [f"cycle-{number}" for number in range(script.cycled)]
        for number, name in enumerate(names):
            await self._upload(tenant, name, script.artifact(100 + number))
        victims = [f"task-of-{name}" for name in HONEST]
        return Attacker(
            tenant=tenant,
            base=self._base,
            prompt=script.prompt(7),
            adapters=names,
            victims=[*victims, *[f"{name}/task-of-{name}" for name in HONEST]],
            pause_seconds=script.pause_seconds,
            garbage=[b"", b"garbage" * 100, *malformed_artifacts(tiny_base_shape()).values()],
        )

    async def _upload(self, tenant: Tenant, name: str, content: bytes) -> None:
        async with tenant.connect(self._server.base_url) as http:
            files = {"file": ("a.safetensors", content)}
            (await http.post("/v1/adapters", data={"name": name}, files=files)).raise_for_status()
