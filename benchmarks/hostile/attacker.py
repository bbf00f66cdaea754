"""The hostile tenant: floods, uploads garbage, cycles adapters, guesses names, uses a revoked key, leaves mid-stream.

Each attack runs over and over until its time is up. It may be refused in any documented way; what it must never get is
an answer it has no right to, or an error of the server's own.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from benchmarks.hostile.tenant import Tenant

REFUSALS = frozenset({400, 401, 403, 404, 413, 422, 429, 503})
"""Statuses an attack may end with; 503 only as `server_overloaded`."""


@dataclass(slots=True)
class Attacker:
    """`victims` are names to guess at; `garbage` files that are no artifacts; `adapters` the names it owns.

    Each attack pauses `pause_seconds` after an attempt: the attacking client shares the machine's cores with the
    server, where in life it has its own. `outcomes` counts statuses by attack; `faults` say what it got and should not
    have.
    """

    tenant: Tenant
    base: str
    prompt: str
    adapters: list[str]
    victims: list[str]
    garbage: list[bytes]
    pause_seconds: float
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def attack(self, base_url: str, until: float, floods: int, seed: int) -> None:
        """Attack in every way at once until the time of `time.monotonic`; `floods` requests are tried at a time."""
        attacks: list[Callable[[httpx2.AsyncClient, random.Random], Awaitable[None]]] = [
            *[self.flood] * floods,
            *[self.cycle_adapters] * 4,
            self.upload_garbage,
            self.guess_names,
            self.use_a_revoked_key,
            *[self.leave_mid_stream] * 4,
        ]
        async with self.tenant.connect(base_url) as http, asyncio.TaskGroup() as group:
            for number, attack in enumerate(attacks):
                group.create_task(self._go_on(attack, http, random.Random(seed * 1000 + number), until))

    async def _go_on(
        self,
        attack: Callable[[httpx2.AsyncClient, random.Random], Awaitable[None]],
        http: httpx2.AsyncClient,
        rng: random.Random,
        until: float,
    ) -> None:
        while time.monotonic() < until:
            try:
                await attack(http, rng)
            except httpx2.HTTPError as error:
                self.outcomes[f"{attack.__name__} {type(error).__name__}"] += 1
            await asyncio.sleep(self.pause_seconds)

    async def flood(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Ask for as much as fits."""
        body = {"model": self.base, "prompt": self.prompt + str(rng.random()), "max_tokens": 64, "ignore_eos": True}
        self._note("flood", await http.post("/v1/completions", json=body), allowed={200})

    async def cycle_adapters(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Ask a different adapter each time, so that each has to be loaded."""
        body = {"model": rng.choice(self.adapters), "prompt": "again", "max_tokens": 1}
        self._note("cycle_adapters", await http.post("/v1/completions", json=body), allowed={200})

    async def upload_garbage(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Upload what is no artifact, under names of its own and of others."""
        name = rng.choice([*self.victims, "garbage", "../../etc/passwd", ""])
        files = {"file": ("a.safetensors", rng.choice(self.garbage))}
        self._note("upload_garbage", await http.post("/v1/adapters", data={"name": name}, files=files), allowed=set())

    async def guess_names(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Ask for, read and change adapters of others, which must look as if they were not there."""
        name = rng.choice(self.victims)
        real = await self._reach(http, name, rng.randrange(5))
        invented = await self._reach(http, f"x{name[1:]}", rng.randrange(5))
        for answer in (real, invented):
            self._note("guess_names", answer, allowed=set())
            if answer.status_code not in {404, 429}:
                self.faults.append(f"guessing a name was answered {answer.status_code}: {answer.text[:200]}")

    async def _reach(self, http: httpx2.AsyncClient, name: str, way: int) -> httpx2.Response:
        if way == 0:
            return await http.post("/v1/completions", json={"model": name, "prompt": "a", "max_tokens": 1})
        if way == 1:
            return await http.get(f"/v1/adapters/{name}")
        if way == 2:
            return await http.delete(f"/v1/adapters/{name}")
        if way == 3:
            return await http.post(f"/v1/adapters/{name}/load", json={})
        return await http.get(f"/v1/models/{name}")

    async def use_a_revoked_key(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Use a key that was taken away."""
        headers = {"Authorization": f"Bearer {self.tenant.revoked}"}
        path = rng.choice(["/v1/models", "/v1/adapters", "/v1/tenants"])
        answer = await http.get(path, headers=headers)
        self._note("use_a_revoked_key", answer, allowed=set())
        if answer.status_code != 401:
            self.faults.append(f"a revoked key was answered {answer.status_code} on {path}")

    async def leave_mid_stream(self, http: httpx2.AsyncClient, rng: random.Random) -> None:
        """Begin a stream and go away in the middle of it."""
        body = {"model": self.base, "prompt": str(rng.random()), "max_tokens": 64, "ignore_eos": True, "stream": True}
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            self.outcomes[f"leave_mid_stream {answer.status_code}"] += 1
            if answer.status_code == 200:
                async for _ in answer.aiter_bytes():
                    break

    def _note(self, attack: str, answer: httpx2.Response, allowed: set[int]) -> None:
        status = answer.status_code
        self.outcomes[f"{attack} {status}"] += 1
        if status in allowed or (status in REFUSALS and (status != 503 or _code(answer) == "server_overloaded")):
            return
        self.faults.append(f"{attack} was answered {status}: {answer.text[:200]}")


def _code(answer: httpx2.Response) -> Any:  # noqa: ANN401 - whatever the server says
    try:
        return answer.json()["error"]["code"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
