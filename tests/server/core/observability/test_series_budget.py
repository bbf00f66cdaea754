"""Series are limited, shared fairly among tenants, and only reassigned to become fairer."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from headmix_server.core.observability.series_budget import OTHER, Owner, SeriesBudget

TENANTS = st.sampled_from(["a", "b", "c", "d"])
OWNERS = st.tuples(TENANTS, st.integers(0, 12).map(str))


@settings(deadline=None)
@given(limit=st.integers(1, 9), asked=st.lists(OWNERS, max_size=120))
def test_who_asks_for_more_than_its_share_keeps_nobody_from_theirs(limit: int, asked: list[Owner]) -> None:
    held: set[Owner] = set()
    evicted: list[Owner] = []
    budget = SeriesBudget(limit, evicted.append)
    for owner in asked:
        before = Counter(tenant for tenant, _ in held)
        labels = budget.admit(owner)
        held.difference_update(evicted)
        if labels == owner:
            assert owner not in evicted
            held.add(owner)
        else:
            assert labels == (OTHER, OTHER)
            assert len(held) == limit
            assert max(before.values()) <= before[owner[0]] + 1
        for tenant, _ in evicted:
            assert before[tenant] >= before[owner[0]] + 2
        evicted.clear()
        assert len(held) <= limit
    assert all(budget.admit(owner) == owner for owner in held)
    assert not evicted


@settings(deadline=None)
@given(asked=st.lists(OWNERS, max_size=60), gone=st.lists(OWNERS, max_size=20))
def test_places_that_are_given_back_are_free_again(asked: list[Owner], gone: list[Owner]) -> None:
    budget = SeriesBudget(5, lambda _: None)
    for owner in asked:
        budget.admit(owner)
    for tenant, adapter in gone:
        for holder, name in budget.release(tenant, adapter):
            assert (holder, name) == (tenant, adapter)
        assert budget.release(tenant, adapter) == ()
    for tenant in ("a", "b", "c", "d"):
        for number in range(13):
            budget.release(tenant, str(number))
    assert all(budget.admit(("z", str(number))) == ("z", str(number)) for number in range(5))


def test_an_adapter_gives_back_the_places_of_all_who_call_it_by_whatever_name() -> None:
    budget = SeriesBudget(9, lambda _: None)
    for owner in (("a", "x"), ("a", "a/x"), ("b", "a/x"), ("b", "x"), ("c", "b/x")):
        budget.admit(owner)
    assert sorted(budget.release("a", "x")) == [("a", "a/x"), ("a", "x"), ("b", "a/x")]
