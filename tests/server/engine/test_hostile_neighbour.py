"""How much a hostile tenant within its quota delays two others' first tokens, on a simulated clock.

An engine finishes what it has started, so the share of a step that a flood takes is limited by how many of its requests
are open: without that quota it fills the whole batch.
"""

from dataclasses import replace
from statistics import quantiles

from harness.engine.engines import LIMITS
from harness.engine.simulation import Arrival, Flood, Simulation

SERVER = replace(
    LIMITS, max_model_len=512, kv_blocks=1024, block_size=16, max_batch_tokens=256, max_running=64, max_waiting=1024
)
SECONDS = 60.0
LAST = 2.0
"""Honest tenants stop sending requests this many seconds before the end, so that all can be answered."""
QUOTA = 4
"""How many requests a tenant may have open at once."""

HONEST = [
    Arrival(client * 0.07 + number * 0.29, f"honest{client}", 40 + number * 37 % 160, 24)
    for client in range(2)
    for number in range(int((SECONDS - LAST) / 0.29))
]


HONEST_THIRD = Flood("third", QUOTA, 448, 16)
"""Processes long documents, as many at a time as it may."""


def p99_beside(third: Flood, *, fair: bool = True) -> float:
    """Return the p99 of the two honest tenants' seconds to a first token; unanswered requests count in full."""
    record = Simulation(SERVER, one_line=not fair).run(HONEST, until=SECONDS, floods=[third])
    times = [seconds for client in range(2) for seconds in record.first_token_seconds[f"honest{client}"]]
    times += [SECONDS] * (len(HONEST) - len(times))
    return quantiles(times, n=100)[-1]


def test_a_flood_within_its_quota_at_most_doubles_the_p99_first_token_time_of_others() -> None:
    beside_honest = p99_beside(HONEST_THIRD)
    for prompt, outputs in ((448, 1), (448, 64), (16, 490), (1, 1)):
        assert p99_beside(Flood("third", QUOTA, prompt, outputs)) <= 2 * beside_honest, (prompt, outputs)


def test_without_fair_shares_and_quota_the_same_flood_costs_the_others_tenfold() -> None:
    flood = Flood("third", 200, 448, 64)
    assert p99_beside(flood, fair=False) > 10 * p99_beside(HONEST_THIRD)
