"""Whose request is dropped when the bodies being received take too much memory."""

from headmix_server.api.middleware.body.body_budget import BodyBudget


def test_the_largest_body_of_the_tenant_that_holds_most_gives_way() -> None:
    budget = BodyBudget(100)
    large, small, others = budget.open("a"), budget.open("a"), budget.open("b")
    large.grow(40)
    small.grow(20)
    others.grow(35)
    others.grow(10)  # b holds 45, a 60
    assert (large.evicted, small.evicted, others.evicted) == (True, False, False)
    assert budget.total == 65


def test_a_tenant_that_sends_too_much_gives_way_itself() -> None:
    budget = BodyBudget(100)
    others, greedy = budget.open("b"), budget.open("a")
    others.grow(40)
    for _ in range(10):
        greedy.grow(10)
    assert (greedy.evicted, others.evicted) == (True, False)
    assert budget.total == 40


def test_ended_bodies_leave_nothing_behind() -> None:
    budget = BodyBudget(100)
    for tenant in ("a", "b", "a"):
        body = budget.open(tenant)
        body.grow(60)
        body.end()
        body.end()
    assert budget.total == 0
    assert not budget._bodies
    assert not budget._by_tenant
