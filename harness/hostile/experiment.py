"""The experiment: three tenants on one server. Two are honest; the third is honest in one phase, hostile in the next.

Each attack has its own phase. Baseline phases, in which the third is honest too, are interleaved with them, so that
noise on the machine affects both. All tenants have the same limits.
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

from harness.hostile.attacker import AttackPlan, AttackResult
from harness.hostile.attacks.attack import AttackResources
from harness.hostile.neighbour import Neighbour, Times
from harness.hostile.server_monitor import ServerMonitor, ServerUsage
from harness.hostile.tenant import PATIENCE_SECONDS, Tenant, make_tenant
from harness.server.running_server import RunningServer

HONEST = ("ada", "grace", "edsger")
HOSTILE = "mallory"
SHARED = 4
"""How many adapters each honest tenant shares with everyone."""
NICENESS = "5"
"""The attacker's niceness: it represents a client with its own cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPlan:
    """The sizes: a phase in seconds, an honest tenant's streams and questions, an answer's tokens.

    `attacks` run one after another, those in one tuple together; `pause_seconds` is how long each attacking client
    waits after an attempt. `limits` apply to every tenant. `artifact` makes adapters by number, of which the hostile
    tenant has `cycled`; `folder` contains its other files (see `AttackResources`).
    `on_phase` and `on_end` report progress.
    """

    phase_seconds: float
    attacks: Sequence[tuple[str, ...]]
    baseline_every: int
    streams: int
    pause_seconds: float
    cycled: int
    questions: int
    max_tokens: int
    limits: dict[str, int]
    folder: Path
    artifact: Callable[[int], bytes]
    prompt: Callable[[int], str]
    on_phase: Callable[[str, int, int], None] = lambda _name, _number, _count: None
    on_end: Callable[["Phase"], None] = lambda _run_phase: None


@dataclass(slots=True)
class Phase:
    """What the two honest tenants measured in one phase, and the responses to the attacks."""

    name: str
    times: Times
    usage: ServerUsage
    faults: list[str]
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """`baseline` are the phases next to a third honest tenant, `phases` those next to the hostile one."""

    baseline: list[Phase] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that anyone saw but should not have."""
        return [f"{phase.name}: {fault}" for phase in [*self.baseline, *self.phases] for fault in phase.faults]


class Experiment:
    """Sets up once, then runs phase by phase."""

    def __init__(self, server: RunningServer, base: str, plan: ExperimentPlan) -> None:
        self._server = server
        self._base = base
        self._plan = plan
        self._monitor = ServerMonitor(server)

    async def run(self) -> Outcome:
        """Set up the tenants, run every phase and return the outcome."""
        plan, outcome = self._plan, Outcome()
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=self._server.base_url, headers=self._server.headers, timeout=PATIENCE_SECONDS, limits=limits
        ) as admin:
            honest = [await self._honest(admin, name, number) for number, name in enumerate(HONEST)]
            resources = await self._hostile(admin)
        for number, attacks in enumerate(plan.attacks):
            if number % plan.baseline_every == 0:
                outcome.baseline.append(await self._run_phase("baseline", honest, None, number))
            name = " + ".join(attacks) if len(attacks) < 4 else f"{len(attacks)} attacks at once"
            plan.on_phase(name, number, len(plan.attacks))
            attack_plan = AttackPlan(
                attacks=list(attacks),
                seconds=plan.phase_seconds,
                pause_seconds=plan.pause_seconds,
                seed=number,
                resources=resources,
            )
            outcome.phases.append(await self._run_phase(name, honest[:2], attack_plan, number))
        outcome.baseline.append(await self._run_phase("baseline", honest, None, len(plan.attacks)))
        return outcome

    async def _run_phase(
        self, name: str, honest: Sequence[Neighbour], attack_plan: AttackPlan | None, number: int
    ) -> Phase:
        for tenant in honest:
            tenant.times, tenant.faults = Times(), []
        results: list[AttackResult] = []
        running = asyncio.create_task(self._run_together(honest, attack_plan, number, results))
        usage = await self._monitor.measure(running)
        await running
        await honest[0].require_a_pin(self._server.base_url)
        times = Times()
        for tenant in honest[:2]:
            times.extend(tenant.times)
        faults = [fault for tenant in honest for fault in tenant.faults] + [
            fault for one in results for fault in one.faults
        ]
        phase = Phase(name, times, usage, faults, results[0].outcomes if results else {})
        self._plan.on_end(phase)
        return phase

    async def _run_together(
        self, honest: Sequence[Neighbour], attack_plan: AttackPlan | None, number: int, results: list[AttackResult]
    ) -> None:
        """Run the attacker and the honest tenants for one phase, which starts with the attacker."""
        attacking = None if attack_plan is None else await _start_attacker(attack_plan)
        until = time.monotonic() + self._plan.phase_seconds
        async with asyncio.TaskGroup() as group:
            for place, tenant in enumerate(honest):
                group.create_task(tenant.work(self._server.base_url, until, self._plan.streams, number * 10 + place))
        if attacking is not None:
            written, _ = await attacking.communicate()
            if attacking.returncode:
                raise RuntimeError("the attacker failed")
            results.append(msgspec.json.decode(written, type=AttackResult))

    async def _honest(self, admin: httpx2.AsyncClient, name: str, number: int) -> Neighbour:
        plan = self._plan
        tenant = await make_tenant(admin, name, plan.limits)
        adapter = f"task-of-{name}"
        await self._upload(tenant, adapter, plan.artifact(number))
        if number == 0:
            await self._share(tenant)
        questions: list[dict[str, Any]] = [
            {
                "model": adapter if place % 2 else self._base,
                "prompt": plan.prompt(number * 1000 + place),
                "max_tokens": plan.max_tokens,
                "temperature": 0,
                "ignore_eos": True,
            }
            for place in range(plan.questions)
        ]
        neighbour = Neighbour(tenant, adapter, questions)
        await neighbour.learn(self._server.base_url)
        return neighbour

    async def _share(self, tenant: Tenant) -> None:
        async with tenant.connect(self._server.base_url) as http:
            for number in range(SHARED):
                await self._upload(tenant, f"shared-{number}", self._plan.artifact(50 + number))
                path = f"/v1/adapters/shared-{number}/sharing"
                (await http.put(path, json={"everyone": True})).raise_for_status()

    async def _hostile(self, admin: httpx2.AsyncClient) -> AttackResources:
        plan = self._plan
        tenant = await make_tenant(admin, HOSTILE, plan.limits)
        names = [f"cycle-{number}" for number in range(plan.cycled)]
        for number, name in enumerate(names):
            await self._upload(tenant, name, plan.artifact(100 + number))
        victims = [f"task-of-{name}" for name in HONEST]
        return AttackResources(
            base_url=self._server.base_url,
            key=tenant.key,
            revoked=tenant.revoked,
            base=self._base,
            prompt=plan.prompt(7),
            folder=str(plan.folder),
            adapters=names,
            shared=[f"{HONEST[0]}/shared-{number}" for number in range(SHARED)],
            victims=[*victims, *[f"{name}/task-of-{name}" for name in HONEST]],
            max_tokens=plan.limits["tokens_per_request"],
        )

    async def _upload(self, tenant: Tenant, name: str, content: bytes) -> None:
        async with tenant.connect(self._server.base_url) as http:
            files = {"file": ("a.safetensors", content)}
            (await http.post("/v1/adapters", data={"name": name}, files=files)).raise_for_status()


async def _start_attacker(attack_plan: AttackPlan) -> asyncio.subprocess.Process:
    """Start the attacker's process and return once it has imported everything and read its plan."""
    command = ["nice", "-n", NICENESS, sys.executable, "-m", "harness.hostile.attacker"]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdin.write(msgspec.json.encode(attack_plan))
    process.stdin.write_eof()
    return process
