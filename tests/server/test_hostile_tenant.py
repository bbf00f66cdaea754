"""Two tenants next to a hostile third, over HTTP with real processes; the engine's tokens are hashes.

`make hostile` measures on a real base how much each attack delays the two, and `engine/test_hostile_neighbour.py`
proves bounds on a simulated clock; this file checks what must never happen at any speed.
"""

import asyncio
from pathlib import Path

import pytest

from harness.adapters.artifacts import random_artifact
from harness.hostile.attacks.registry import ATTACKS
from harness.hostile.experiment import Experiment, ExperimentPlan, Outcome
from harness.hostile.payloads import write_payloads
from harness.server.running_server import FAKE_BASE, running_server, write_fake_base
from headmix_adapters.base import read_base_shape

pytestmark = pytest.mark.slow

AT_ONCE = (
    *("flood", "cycle_adapters", "upload_garbage", "guess_names", "use_a_revoked_key", "leave_mid_stream"),
    *("odd_requests", "odd_forms", "pin_shared_bytes", "most_metadata", "many_faults"),
)
"""The attacks that need few resources; `make hostile` runs the others."""


def run(folder: Path) -> Outcome:
    base = write_fake_base(folder / FAKE_BASE)
    shape = read_base_shape(FAKE_BASE, base)
    write_payloads(folder / "payloads", shape)

    def artifact(number: int) -> bytes:
        path = folder / f"{number}.safetensors"
        random_artifact(path, shape, seed=number)
        return path.read_bytes()

    plan = ExperimentPlan(
        phase_seconds=3.0,
        attacks=[AT_ONCE],
        baseline_every=1,
        streams=2,
        pause_seconds=0.02,
        cycled=12,
        questions=6,
        max_tokens=12,
        limits={"concurrent_requests": 6, "tokens_per_request": 128},
        folder=folder / "payloads",
        artifact=artifact,
        prompt=lambda number: f"The quick brown fox number {number}",
    )
    with running_server(folder, base=base, adapter_slots=8, host_adapters=8) as server:
        return asyncio.run(Experiment(server, FAKE_BASE, plan).run())


@pytest.mark.timeout(240)
def test_two_tenants_beside_a_hostile_third_see_no_error_and_no_foreign_byte(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    assert outcome.faults == []
    (phase,) = outcome.phases
    assert phase.times.first_tokens
    assert phase.outcomes.keys() == set(AT_ONCE)
    assert all(phase.outcomes.values()), phase.outcomes


def test_each_attack_has_a_name_of_its_own_and_a_line_that_says_what_it_tries() -> None:
    assert len({attack.what for attack in ATTACKS.values()}) == len(ATTACKS)
    assert all(name == attack.attempt.__name__ or attack.attempt.__doc__ for name, attack in ATTACKS.items())
