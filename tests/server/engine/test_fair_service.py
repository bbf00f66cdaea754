"""What competing tenants get from the engine: the results of the VTC paper, on a simulated clock."""

from dataclasses import replace
from statistics import fmean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.engines import LIMITS
from harness.engine.simulation import Arrival, Record, Simulation
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST

SERVER = replace(
    LIMITS, max_model_len=512, kv_blocks=512, block_size=16, max_batch_tokens=256, max_running=16, max_waiting=10**6
)
SMALL = replace(
    LIMITS, max_model_len=48, kv_blocks=24, block_size=4, max_batch_tokens=16, max_running=8, max_waiting=10**6
)
FOREVER = float("inf")


# --- light and heavy clients -------------------------------------------------------------------------------------


def crowd(seconds: float) -> list[Arrival]:
    """Two clients that request twice the capacity, eight that request a tenth of it."""
    heavy = [Arrival(n / 30, f"heavy{k}", 64, 32) for k in range(2) for n in range(int(30 * seconds))]
    light = [Arrival(k / 17 + n * 2.5, f"light{k}", 64, 32) for k in range(8) for n in range(int(seconds / 2.5))]
    return heavy + light


def of_light(record: Record) -> list[float]:
    return [s for client, found in record.first_token_seconds.items() if client.startswith("light") for s in found]


def test_light_clients_wait_a_tenth_of_first_come_first_served_at_equal_throughput() -> None:
    seconds = 20.0
    fcfs = Simulation(SERVER, one_line=True).run(crowd(seconds), until=seconds)
    vtc = Simulation(SERVER).run(crowd(seconds), until=seconds)
    assert len(of_light(vtc)) > len(of_light(fcfs))  # those that FCFS never reached are not even counted below
    for average in (fmean, median):
        assert average(of_light(fcfs)) > 10 * average(of_light(vtc))
    throughput = [sum(record.service[-1].values()) for record in (fcfs, vtc)]
    assert throughput[1] == pytest.approx(throughput[0], rel=0.02)


# --- the bound ---------------------------------------------------------------------------------------------------

REQUESTS = st.lists(st.tuples(st.integers(1, 32), st.integers(1, 16)), min_size=60, max_size=60)


def backlog(sizes: dict[str, list[tuple[int, int]]]) -> list[Arrival]:
    return [Arrival(0.0, client, *size) for client, requests in sizes.items() for size in requests]


@settings(max_examples=25, deadline=None)
@given(REQUESTS, REQUESTS, st.sampled_from([1.0, 2.0, 3.0]))
def test_the_service_of_two_backlogged_tenants_never_differs_by_more_than_the_papers_bound(
    first: list[tuple[int, int]], second: list[tuple[int, int]], weight: float
) -> None:
    """Theorem 4.4: over any interval in which both have requests queued, 2 max(wp Linput, wq M), by weight."""
    record = Simulation(SMALL, weights={"b": weight}).run(backlog({"a": first, "b": second}), until=FOREVER)
    bound = 2 * max(INPUT_COST * 32, OUTPUT_COST * SMALL.kv_blocks * SMALL.block_size)
    together = [
        service.get("a", 0.0) - service.get("b", 0.0) / weight
        for service, waiting in zip(record.service, record.backlogged, strict=True)
        if waiting == {"a", "b"}
    ]
    assert max(together) - min(together) <= bound


def test_service_follows_weights() -> None:
    arrivals = backlog({"once": [(32, 8)] * 200, "twice": [(8, 16)] * 400})
    record = Simulation(SMALL, weights={"twice": 2.0}).run(arrivals, until=3.0)
    assert record.backlogged[-1] == {"once", "twice"}
    assert record.service[-1]["twice"] == pytest.approx(2 * record.service[-1]["once"], rel=0.05)


def test_a_tenant_that_comes_back_has_saved_up_nothing() -> None:
    late = [Arrival(2.0, "late", 16, 8)] * 200
    record = Simulation(SMALL).run([*backlog({"early": [(16, 8)] * 1000}), *late], until=4.0)
    since = next(n for n, service in enumerate(record.service) if "late" in service)
    gained = {client: record.service[-1][client] - record.service[since].get(client, 0) for client in ("early", "late")}
    assert gained["late"] == pytest.approx(gained["early"], rel=0.1)


# --- work conservation -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 8)), min_size=1, max_size=30))
def test_no_step_leaves_budget_unused_that_anyone_could_use(requests: list[tuple[str, int, int]]) -> None:
    """With enough cache and slots, each step computes everything there is or as much as fits, of whichever tenant."""
    limits = replace(SMALL, kv_blocks=1000, max_running=1000)
    record = Simulation(limits).run([Arrival(0.0, *request) for request in requests], until=FOREVER)
    left = {n: (prompt, outputs) for n, (_, prompt, outputs) in enumerate(requests)}
    for batch in record.batches:
        assert batch.num_tokens == min(limits.max_batch_tokens, sum(max(p, 1) for p, _ in left.values()))
        for row in batch.rows:
            prompt, outputs = left[row.sequence_id]
            left[row.sequence_id] = (max(0, prompt - row.count), outputs - row.samples)
            if left[row.sequence_id][1] == 0:
                del left[row.sequence_id]
    assert not left


def test_a_tenant_alone_is_served_as_if_there_were_no_shares() -> None:
    arrivals = backlog({"alone": [(n % 30 + 1, n % 9 + 1) for n in range(80)]})
    alone, line = (Simulation(SMALL, one_line=one).run(arrivals, until=FOREVER) for one in (False, True))
    shapes = [[[(row.sequence_id, row.count) for row in batch.rows] for batch in r.batches] for r in (alone, line)]
    assert shapes[0] == shapes[1]
