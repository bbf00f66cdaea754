"""The scene: three tenants on one server. Two are honest; the third is honest in one act and hostile in the next.

Each attack has an act of its own. The acts in which the third is honest too are spread between them, so that a noisy
minute of the machine falls on both. Everybody has the same limits.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from harness.hostile.attacker import Raid, Tally
from harness.hostile.attacks.attack import Material
from harness.hostile.neighbour import Neighbour, Times
from harness.hostile.server_metrics import Watch, Watched
from harness.hostile.tenant import PATIENCE_SECONDS, Tenant, make_tenant
from harness.server.running_server import RunningServer

HONEST = ("ada", "grace", "edsger")
HOSTILE = "mallory"
SHARED = 4
"""Adapters that an honest tenant shares with everyone."""
NICENESS = "5"
"""Of the attacker: it stands for a client that has cores of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How long and how much: an act in seconds, streams and questions of an honest tenant, tokens of an answer.

    `attacks` are played one after the other, those of one tuple together; `pause_seconds` is what each attacking client
    waits after an attempt. `limits` are every tenant's. `artifact` makes adapters by number, of which the hostile
    tenant has `cycled`; `folder` holds its other files (see `Material`). `on_act` and `on_end` are told how far it is.
    """

    act_seconds: float
    attacks: Sequence[tuple[str, ...]]
    yardstick_every: int
    streams: int
    pause_seconds: float
    cycled: int
    questions: int
    max_tokens: int
    limits: dict[str, int]
    folder: Path
    artifact: Callable[[int], bytes]
    prompt: Callable[[int], str]
    on_act: Callable[[str, int, int], None] = lambda _name, _number, _count: None
    on_end: Callable[["Act"], None] = lambda _act: None


@dataclass(slots=True)
class Act:
    """What the two honest tenants met in one act, and what the attacks were answered."""

    name: str
    times: Times
    watched: Watched
    faults: list[str]
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """`yardstick` are the acts beside a third honest tenant, `acts` those beside the hostile one."""

    yardstick: list[Act] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that anybody saw and should not have."""
        return [f"{act.name}: {fault}" for act in [*self.yardstick, *self.acts] for fault in act.faults]


class Scene:
    """Set up once, then played act by act."""

    def __init__(self, server: RunningServer, base: str, script: Script) -> None:
        self._server = server
        self._base = base
        self._script = script
        self._watch = Watch(server)

    async def play(self) -> Outcome:
        """Set the scene, play every act and return what became of it."""
        script, outcome = self._script, Outcome()
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=self._server.base_url, headers=self._server.headers, timeout=PATIENCE_SECONDS, limits=limits
        ) as admin:
            honest = [await self._honest(admin, name, number) for number, name in enumerate(HONEST)]
            material = await self._hostile(admin)
        for number, attacks in enumerate(script.attacks):
            if number % script.yardstick_every == 0:
                outcome.yardstick.append(await self._act("yardstick", honest, None, number))
            name = " + ".join(attacks) if len(attacks) < 4 else f"{len(attacks)} attacks at once"
            script.on_act(name, number, len(script.attacks))
            raid = Raid(
                attacks=list(attacks),
                seconds=script.act_seconds,
                pause_seconds=script.pause_seconds,
                seed=number,
                have=material,
            )
            outcome.acts.append(await self._act(name, honest[:2], raid, number))
        outcome.yardstick.append(await self._act("yardstick", honest, None, len(script.attacks)))
        return outcome

    async def _act(self, name: str, honest: Sequence[Neighbour], raid: Raid | None, number: int) -> Act:
        for tenant in honest:
            tenant.times, tenant.faults = Times(), []
        tally: list[Tally] = []
        playing = asyncio.create_task(self._play_together(honest, raid, number, tally))
        watched = await self._watch.over(playing)
        await playing
        await honest[0].require_a_pin(self._server.base_url)
        times = Times()
        for tenant in honest[:2]:
            times.extend(tenant.times)
        faults = [fault for tenant in honest for fault in tenant.faults] + [
            fault for one in tally for fault in one.faults
        ]
        act = Act(name, times, watched, faults, tally[0].outcomes if tally else {})
        self._script.on_end(act)
        return act

    async def _play_together(
        self, honest: Sequence[Neighbour], raid: Raid | None, number: int, tally: list[Tally]
    ) -> None:
        """Let the attacker and the honest ones work, as long as an act is from the moment the attacker begins."""
        attacking = None if raid is None else await _start_attacker(raid)
        until = time.monotonic() + self._script.act_seconds
        async with asyncio.TaskGroup() as group:
            for place, tenant in enumerate(honest):
                group.create_task(tenant.work(self._server.base_url, until, self._script.streams, number * 10 + place))
        if attacking is not None:
            written, _ = await attacking.communicate()
            if attacking.returncode:
                raise RuntimeError("the attacker failed")
            tally.append(msgspec.json.decode(written, type=Tally))

    async def _honest(self, admin: httpx2.AsyncClient, name: str, number: int) -> Neighbour:
        script = self._script
        tenant = await make_tenant(admin, name, script.limits)
        adapter = f"task-of-{name}"
        await self._upload(tenant, adapter, script.artifact(number))
        if number == 0:
            await self._share(tenant)
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
        neighbour = Neighbour(tenant, adapter, questions)
        await neighbour.learn(self._server.base_url)
        return neighbour

    async def _share(self, tenant: Tenant) -> None:
        async with tenant.connect(self._server.base_url) as http:
            for number in range(SHARED):
                await self._upload(tenant, f"shared-{number}", self._script.artifact(50 + number))
                path = f"/v1/adapters/shared-{number}/sharing"
                (await http.put(path, json={"everyone": True})).raise_for_status()

    async def _hostile(self, admin: httpx2.AsyncClient) -> Material:
        script = self._script
        tenant = await make_tenant(admin, HOSTILE, script.limits)
        names = [f"cycle-{number}" for number in range(script.cycled)]
        for number, name in enumerate(names):
            await self._upload(tenant, name, script.artifact(100 + number))
        victims = [f"task-of-{name}" for name in HONEST]
        return Material(
            base_url=self._server.base_url,
            key=tenant.key,
            revoked=tenant.revoked,
            base=self._base,
            prompt=script.prompt(7),
            folder=str(script.folder),
            adapters=names,
            shared=[f"{HONEST[0]}/shared-{number}" for number in range(SHARED)],
            victims=[*victims, *[f"{name}/task-of-{name}" for name in HONEST]],
            max_tokens=script.limits["tokens_per_request"],
        )

    async def _upload(self, tenant: Tenant, name: str, content: bytes) -> None:
        async with tenant.connect(self._server.base_url) as http:
            files = {"file": ("a.safetensors", content)}
            (await http.post("/v1/adapters", data={"name": name}, files=files)).raise_for_status()


async def _start_attacker(raid: Raid) -> asyncio.subprocess.Process:
    """Start the attacker's process and return once it has its orders and all that it imports."""
    command = ["nice", "-n", NICENESS, sys.executable, "-m", "harness.hostile.attacker"]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdin.write(msgspec.json.encode(raid))
    process.stdin.write_eof()
    return process
