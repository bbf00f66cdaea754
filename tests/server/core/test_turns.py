"""No tenant waits behind everything another has queued, and the server's own work goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.core.turns import SERVER, TurnOrder


def test_the_servers_own_work_goes_before_every_tenants() -> None:
    order: TurnOrder[str] = TurnOrder()
    for item in ("a1", "a2", "b1"):
        order.join(item[0], item)
    order.join(SERVER, "lease")
    assert order.take() == "lease"
    assert order.take() is None  # one at a time
    order.end(SERVER)
    assert order.take() == "a1"


def test_who_does_not_wait_cannot_leave() -> None:
    order: TurnOrder[str] = TurnOrder()
    order.join("a", "a1")
    for tenant, item in (("b", "a1"), ("a", "a2")):
        with pytest.raises(ValueError, match="not"):
            order.leave(tenant, item)
    assert len(order) == 1


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 3), st.data())
def test_the_tenant_admitted_has_least_at_work_and_none_that_equals_it_has_waited_longer(
    arrivals: list[str], at_once: int, data: st.DataObject
) -> None:
    order: TurnOrder[str] = TurnOrder(at_once)
    for name in arrivals:
        order.join(name, name)
    at_work: list[str] = []
    last_end = dict.fromkeys(arrivals, -1)
    for moment in range(3 * len(arrivals)):
        tenant = order.take()
        if tenant is None:
            if at_work:
                order.end(done := at_work.pop(data.draw(st.integers(0, len(at_work) - 1))))
                last_end[done] = moment
            continue
        others = [other for other in last_end if other != tenant and order.waiting(other)]
        assert all(at_work.count(tenant) <= at_work.count(other) for other in others)
        if at_once == 1:
            assert all(last_end[tenant] <= last_end[other] for other in others)
        at_work.append(tenant)
        assert len(at_work) <= at_once
    assert (len(order), at_work) == (0, [])
