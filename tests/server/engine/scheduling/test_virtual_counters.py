"""Virtual counters: which tenant is next, what inactivity is worth, and the bound of the paper's theorem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST, VirtualCounters


def test_the_tenant_that_had_least_is_next_and_of_equals_the_first() -> None:
    counters = VirtualCounters()
    assert counters.next_of(["a", "b"]) == "a"
    counters.charge("a", inputs=10)
    assert counters.next_of(["a", "b"]) == "b"
    counters.charge("b", outputs=6)
    assert counters.next_of(["a", "b"]) == "a"


def test_an_output_token_costs_twice_an_input_token_and_a_weight_divides_both() -> None:
    counters = VirtualCounters({"heavy": 4.0})
    counters.charge("light", inputs=3, outputs=2)
    counters.charge("heavy", inputs=3, outputs=2)
    assert counters.counter("light") == 3 * INPUT_COST + 2 * OUTPUT_COST
    assert counters.counter("heavy") == counters.counter("light") / 4


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        VirtualCounters().set_weight("a", weight)


def test_inactivity_saves_up_nothing() -> None:
    counters = VirtualCounters()
    counters.arrive("a", [])
    counters.charge("a", inputs=1000)
    counters.arrive("b", ["a"])
    assert counters.counter("b") == 1000
    counters.charge("a", inputs=50)
    counters.leave("a")
    counters.arrive("c", [])
    assert counters.counter("c") == 1050


def test_who_finds_the_queue_empty_begins_where_the_last_to_leave_it_is_now() -> None:
    counters = VirtualCounters()
    counters.arrive("a", [])
    counters.leave("a")
    counters.charge("a", outputs=20)
    counters.arrive("b", [])
    assert counters.counter("b") == counters.counter("a") == 40


def test_inactivity_pays_off_no_debt() -> None:
    counters = VirtualCounters()
    counters.arrive("a", [])
    counters.arrive("b", ["a"])
    counters.charge("a", inputs=1000)
    counters.arrive("a", ["b"])
    assert counters.counter("a") == 1000


def test_a_second_request_of_a_waiting_tenant_lifts_nothing() -> None:
    counters = VirtualCounters()
    counters.charge("b", inputs=100)
    counters.arrive("a", ["a", "b"])
    assert counters.counter("a") == 0


def test_only_counters_that_a_return_would_lift_anyway_are_forgotten() -> None:
    counters = VirtualCounters()
    for tenant, tokens in (("little", 1), ("here", 10), ("debtor", 100)):
        counters.charge(tenant, inputs=tokens)
    counters.forget(["here"])
    assert [counters.counter(tenant) for tenant in ("little", "here", "debtor")] == [0, 10, 100]
    counters.forget([])
    assert counters.counter("debtor") == 100


def test_who_has_had_as_much_as_those_here_is_forgotten_too() -> None:
    counters = VirtualCounters()
    for tenant in ("gone", "here"):
        counters.charge(tenant, inputs=10)
    counters.forget(["here"])
    assert len(counters) == 1


def test_a_weight_is_forgotten_with_its_counter_unless_its_tenant_is_known() -> None:
    counters = VirtualCounters({"gone": 2.0, "known": 3.0, "here": 4.0})
    counters.charge("here", inputs=1)
    counters.forget(["here"], known=["known"])
    assert [counters.weight_of(tenant) for tenant in ("gone", "known", "here")] == [1.0, 3.0, 4.0]
    assert len(counters) == 1


REQUESTS = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=40, max_size=80)


@given(REQUESTS, REQUESTS, st.sampled_from([0.5, 1.0, 3.0]))
def test_two_backlogged_tenants_never_differ_by_more_than_one_request_each(
    first: list[tuple[int, int]], second: list[tuple[int, int]], weight: float
) -> None:
    """Theorem 4.4's bound, 2 U with U the largest service of one request, when requests are served one by one."""
    counters = VirtualCounters({"b": weight})
    queues = {"a": list(first), "b": list(second)}
    for tenant in queues:
        counters.arrive(tenant, [])
    largest = (64 * INPUT_COST + 64 * OUTPUT_COST) / min(weight, 1.0)
    while all(queues.values()):
        tenant = counters.next_of(queues)
        inputs, outputs = queues[tenant].pop(0)
        counters.charge(tenant, inputs=inputs, outputs=outputs)
        assert abs(counters.counter("a") - counters.counter("b")) <= 2 * largest
