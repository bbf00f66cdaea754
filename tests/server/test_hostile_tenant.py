"""Two tenants beside a hostile third, over HTTP on real processes; the engine's tokens are made by hash.

What it costs the two in time is for `make hostile` to measure on a real base, for `engine/test_hostile_neighbour.py`
to prove on a simulated clock; here is what must never happen at any speed.
"""

import asyncio
from collections import Counter
from pathlib import Path

from benchmarks.hostile.scene import Outcome, Scene, Script
from headmix_adapters.base import read_base_shape
from tests.support.artifacts import random_artifact
from tests.support.server import FAKE_BASE, running_server, write_fake_base

ATTACKS = ("flood", "cycle_adapters", "upload_garbage", "guess_names", "use_a_revoked_key", "leave_mid_stream")


def play(folder: Path) -> Outcome:
    base = write_fake_base(folder / FAKE_BASE)
    shape = read_base_shape(FAKE_BASE, base)

    def artifact(number: int) -> bytes:
        path = folder / f"{number}.safetensors"
        random_artifact(path, shape, seed=number)
        return path.read_bytes()

    script = Script(
        act_seconds=2.0,
        acts=1,
        streams=2,
        floods=8,
        pause_seconds=0.02,
        cycled=12,
        questions=6,
        max_tokens=12,
        limits={"concurrent_requests": 6, "tokens_per_request": 128},
        artifact=artifact,
        prompt=lambda number: f"The quick brown fox number {number}",
    )
    with running_server(folder, base=base, adapter_slots=4, host_adapters=4) as server:
        return asyncio.run(Scene(server, FAKE_BASE, script).play())


def test_two_tenants_beside_a_hostile_third_see_no_error_and_no_foreign_byte(tmp_path: Path) -> None:
    outcome = play(tmp_path)
    assert outcome.faults == []
    assert outcome.with_honest
    assert outcome.with_hostile
    tried = Counter[str]()
    for name, count in outcome.attacks.items():
        tried[name.split()[0]] += count
    assert all(tried[attack] for attack in ATTACKS), outcome.attacks
