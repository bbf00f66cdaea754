"""The attacker: repeats attacks until its time is up, in its own process, as a real client would.

`python -m harness.hostile.attacker` reads an `AttackPlan` on standard input and prints an `AttackResult`. So the cost
of attacking is not counted as a cost to others; it runs with lower priority, since a real attacker has its own cores.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import suppress

import httpx2
import msgspec

from harness.hostile.attacks.attack import PATIENCE_SECONDS, Attack, AttackClient, AttackResources
from harness.hostile.attacks.registry import ATTACKS


class AttackPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which attacks run at the same time, for how long, and how long each client waits after an attempt."""

    attacks: list[str]
    seconds: float
    pause_seconds: float
    seed: int
    resources: AttackResources


class AttackResult(msgspec.Struct, frozen=True, kw_only=True):
    """The responses to the attacks, by attack and status, and what they got but should not have."""

    outcomes: dict[str, dict[str, int]]
    faults: list[str]


async def run_attacks(plan: AttackPlan) -> AttackResult:
    """Attack until the time is up, then clean up."""
    headers = {"Authorization": f"Bearer {plan.resources.key}"}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=plan.resources.base_url, headers=headers, timeout=PATIENCE_SECONDS, limits=limits
    ) as http:
        until = time.monotonic() + plan.seconds
        outcomes: dict[str, Counter[str]] = {name: Counter() for name in plan.attacks}
        faults: list[str] = []
        tasks = []
        for name in plan.attacks:
            for number in range(ATTACKS[name].clients):
                rng = random.Random(plan.seed * 1000 + number)
                client = AttackClient(name, plan.resources, rng, http, until, outcomes=outcomes[name], faults=faults)
                tasks.append(asyncio.create_task(_go_on(ATTACKS[name], client, plan.pause_seconds)))
        # What is in progress when the time is up is abandoned, as an attacker would.
        await asyncio.wait(tasks, timeout=max(0.1, until - time.monotonic()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _clean_up(http, plan.resources)
    return AttackResult(
        outcomes={name: dict(sorted(counts.items())) for name, counts in outcomes.items()}, faults=faults[:50]
    )


async def _go_on(attack: Attack, client: AttackClient, pause_seconds: float) -> None:
    while time.monotonic() < client.until:
        try:
            await attack.attempt(client)
        except httpx2.HTTPError as error:
            client.outcomes[type(error).__name__] += 1
            await asyncio.sleep(0.05)  # a refused connection costs nothing, so do not retry in a tight loop
        except asyncio.CancelledError:
            client.outcomes["unfinished"] += 1
            raise
        await asyncio.sleep(pause_seconds)


async def _clean_up(http: httpx2.AsyncClient, resources: AttackResources) -> None:
    """Delete what was uploaded, so that the next attack starts from the same state; unpin what stays."""
    with suppress(httpx2.HTTPError, KeyError, ValueError):
        listed = (await http.get("/v1/adapters", params={"limit": 1000})).json()["data"]
        for adapter in listed:
            name = adapter["name"]
            if adapter.get("owner") is None and name not in resources.adapters:
                await http.delete(f"/v1/adapters/{name}")
        for name in resources.adapters[:16]:
            await http.delete(f"/v1/adapters/{name}/pin")


def main() -> None:
    """Report ready, then run the attacks that standard input describes."""
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=AttackPlan)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(run_attacks(given))))


if __name__ == "__main__":
    main()
