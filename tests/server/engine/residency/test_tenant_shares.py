"""Which tenant gives up an adapter: the one with most for its weight, never one with less than the requester."""

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headmix_server.engine.residency.tenant_shares import TenantShares
from headmix_server.engine.residency.victims import choose_victims
from tests.support.tenant_shares import make_shares


def leaving(
    shares: TenantShares, candidates: Collection[str], tenant: str, cost: int = 1, *, count: int = 1
) -> str | None:
    """Return the adapters that would leave, in order, as one text; None if none may."""
    view = shares.view()
    chosen = choose_victims(shares, candidates, tenant, cost, lambda gone: len(gone) >= count, view=view, queued={})
    return None if chosen is None else " ".join(chosen)


def test_room_is_taken_from_the_tenant_that_holds_most_for_its_weight() -> None:
    shares = make_shares("ab", {"a": 3.0})
    for digest in ("a1", "a2", "a3", "b1", "b2"):
        shares.charge(digest, digest[0])
    assert leaving(shares, ["a1", "a2", "a3", "b1", "b2"], "c") == "b1"


def test_who_would_end_with_more_gives_up_its_own() -> None:
    shares = make_shares("ab")
    for digest in ("b1", "a1", "a2"):
        shares.charge(digest, digest[0])
    assert leaving(shares, ["b1", "a1", "a2"], "a") == "a1"
    assert leaving(shares, ["b1"], "a") is None
    assert leaving(shares, ["a1"], "b") == "a1"


def test_who_asks_is_judged_by_its_own_weight() -> None:
    shares = make_shares("ab", {"a": 3.0})
    for digest in ("a1", "a2", "b1"):
        shares.charge(digest, digest[0])
    assert leaving(shares, ["a1", "a2", "b1"], "a") == "b1"  # three for a weight of 3, next to one for 1


def test_what_absent_tenants_hold_is_anybodys() -> None:
    shares = make_shares("a")
    for digest in ("a1", "a2", "gone"):
        shares.charge(digest, digest[0])
    assert leaving(shares, ["a1", "a2", "gone"], "a") == "gone"


def test_a_tenant_that_has_nothing_to_give_up_may_always_take() -> None:
    shares = make_shares("ab", {"b": 0.1})
    shares.charge("a1", "a")
    assert leaving(shares, ["a1"], "b") == "a1"
    shares.charge("b1", "b")
    shares.pin("b1", "b")
    assert leaving(shares, ["b1", "a1"], "b") == "a1"


def test_as_many_leave_as_it_takes_each_from_the_tenant_that_then_holds_most() -> None:
    shares = make_shares("abc")
    for digest in ("a1", "a2", "a3", "b1", "b2", "c1"):
        shares.charge(digest, digest[0])
    everything = ["a1", "a2", "a3", "b1", "b2", "c1"]
    assert leaving(shares, everything, "d", count=4) == "a1 a2 b1 a3"
    assert leaving(shares, everything, "a", count=4) == "a1 a2 b1 a3"
    assert leaving(shares, everything, "b", 2, count=3) == "b1 a1 b2"


def test_a_large_adapter_counts_for_what_it_takes() -> None:
    shares = make_shares("ab")
    shares.charge("a1", "a", 3)
    for digest in ("b1", "b2"):
        shares.charge(digest, "b")
    assert leaving(shares, ["b1", "b2", "a1"], "c") == "a1"
    assert leaving(shares, ["b1", "a1"], "b") == "a1"
    assert leaving(shares, ["a1"], "b", 2) is None


# --- used by several ---------------------------------------------------------------------------------------------


def test_an_adapter_is_charged_in_equal_parts_to_those_that_use_it() -> None:
    present = ["a", "b"]
    shares = make_shares(present)
    shares.charge("x", "a")
    shares.charge("x", "b")
    shares.charge("x", "b")
    assert (shares.users("x"), shares.held("a"), shares.held("b")) == (("a", "b"), Fraction(1, 2), Fraction(1, 2))
    present.remove("a")
    shares.charge("x", "b")
    assert shares.users("x") == ("b",)
    assert [shares.held(tenant) for tenant in "ab"] == [0, 1]
    shares.check_integrity(["x"])


def test_a_strangers_use_does_not_make_an_adapter_the_first_to_leave() -> None:
    shares = make_shares("abc")
    for digest in ("a1", "a2", "a3"):
        shares.charge(digest, "a")
    shares.charge("b1", "b")
    assert leaving(shares, ["b1", "a1", "a2", "a3"], "c") == "a1"
    shares.charge("b1", "a")  # the tenant that holds most uses it too
    assert leaving(shares, ["b1", "a1", "a2", "a3"], "c") == "a1"
    shares.charge("a1", "b")  # and the one that holds least uses one of the other's
    assert leaving(shares, ["b1", "a1", "a2", "a3"], "c") == "a2"


def test_who_shares_all_it_has_gives_up_a_part_of_that_and_takes_from_nobody_else() -> None:
    shares = make_shares("abv")
    for digest in ("p1", "p2", "p3", "p4"):
        shares.charge(digest, "a")
        shares.charge(digest, "b")
    for digest in ("v1", "v2"):
        shares.charge(digest, "v")
    assert leaving(shares, ["v1", "v2", "p1", "p2"], "a") == "p1"
    assert leaving(shares, ["v1", "v2"], "a") is None
    shares.charge("a1", "a")
    assert leaving(shares, ["v1", "v2", "p1", "a1"], "a") == "a1"


def test_what_several_use_is_given_up_only_where_nothing_is_the_tenants_alone() -> None:
    shares = make_shares("ab")
    shares.charge("x", "a")
    shares.charge("x", "b")
    shares.charge("a1", "a")
    assert leaving(shares, ["x", "a1"], "a") == "a1"
    assert leaving(shares, ["x"], "a") is None  # a1 is in use, and will be idle at some point


def test_a_pin_charges_its_tenant_for_the_whole_adapter_even_if_others_use_or_pin_it() -> None:
    shares = make_shares("ab")
    shares.charge("x", "b", 2)
    shares.pin("x", "b")
    shares.pin("x", "a")
    assert (shares.pinned_cost("a"), shares.pinned_cost("b"), shares.pinned_cost()) == (2, 2, 2)
    shares.unpin("x", "b")
    assert (shares.pinned_cost("a"), shares.pinned_cost("b"), set(shares.pinned)) == (2, 0, {"x"})
    shares.unpin("x", "b")
    shares.unpin("x", "a")
    assert not shares.pinned


def test_an_absent_tenants_pin_stays_charged_to_it() -> None:
    present = ["a", "b"]
    shares = make_shares(present)
    shares.charge("x", "a")
    shares.pin("x", "a")
    present.remove("a")
    shares.charge("x", "b")
    assert shares.users("x") == ("a", "b")
    shares.check_integrity(["x"])


def test_a_part_is_by_weight_among_those_that_hold_something_and_never_nothing() -> None:
    shares = make_shares("abc", {"a": 3.0, "c": 0.001})
    shares.charge("a1", "a")
    assert [shares.part_of(tenant, 8) for tenant in "abc"] == [8, 2, 1]


def test_a_part_is_of_those_that_were_present_when_that_was_last_looked_at() -> None:
    present = ["a", "b"]
    shares = make_shares(present)
    for digest in ("a1", "b1"):
        shares.charge(digest, digest[0])
    assert shares.part_of("a", 8) == 4
    present.remove("b")
    assert shares.part_of("a", 8) == 4
    shares.invalidate()
    assert shares.part_of("a", 8) == 8


def test_a_part_grows_as_soon_as_another_holder_has_nothing_left() -> None:
    shares = make_shares("ab")
    for digest in ("a1", "b1"):
        shares.charge(digest, digest[0])
    assert shares.part_of("a", 8) == 4
    shares.drop("b1")
    assert shares.part_of("a", 8) == 8
    shares.charge("b1", "b")
    assert shares.part_of("a", 8) == 4


def test_whether_a_tenant_has_its_part_changes_with_what_it_holds() -> None:
    shares = make_shares("ab")
    for digest in ("a1", "a2", "b1"):
        shares.charge(digest, digest[0])
    assert shares.has_part("a", 4)
    assert not shares.has_part("b", 4)
    shares.drop("a1")
    assert not shares.has_part("a", 4)
    shares.check_integrity(["a2", "b1"])


def _another_holder(shares: TenantShares) -> None:
    sharers = shares._current_sharers()
    shares._sharers = replace(sharers, holders={*sharers.holders, "c"})


def _another_total(shares: TenantShares) -> None:
    shares._sharers = replace(shares._current_sharers(), total=7.0)


def _another_answer(shares: TenantShares) -> None:
    known = shares._current_sharers().have_part
    known["a", 4] = not shares.has_part("a", 4)


def _kept_through_a_change(shares: TenantShares) -> None:
    sharers = shares._current_sharers()
    shares.drop("b1")
    shares.charge("b1", "a")
    shares._sharers = sharers


@pytest.mark.parametrize("fault", [_another_holder, _another_total, _another_answer, _kept_through_a_change])
def test_cached_facts_about_sharers_are_compared_with_recomputed_ones(
    fault: Callable[[TenantShares], None],
) -> None:
    shares = make_shares("abc", {"a": 3.0})
    for digest in ("a1", "b1"):
        shares.charge(digest, digest[0])
    shares.check_integrity(["a1", "b1"])
    fault(shares)
    with pytest.raises(RuntimeError, match="found out"):
        shares.check_integrity(["a1", "b1"])


class ShareMachine(RuleBasedStateMachine):
    """Three tenants fill four slots by the rules; an active tenant never falls below its share because of another."""

    def __init__(self) -> None:
        super().__init__()
        self.present = set("abc")
        self.shares = make_shares(self.present)
        self.here: list[str] = []
        self.pins: set[tuple[str, str]] = set()
        self.count = 0

    def size(self) -> int:
        return sum(int(self.shares.cost(digest)) for digest in self.here)

    @rule(tenant=st.sampled_from("abc"), cost=st.integers(1, 3))
    def bring(self, tenant: str, cost: int) -> None:
        self.present.add(tenant)
        before = {t: self.shares.held(t) for t in "abc"}
        users = {digest: self.shares.users(digest) for digest in self.here}

        def enough(gone: list[str]) -> bool:
            return self.size() - sum(self.shares.cost(digest) for digest in gone) + cost <= 4

        view = self.shares.view()
        victims = choose_victims(self.shares, self.here, tenant, cost, enough, view=view, queued={})
        if victims is None:
            assert self.pins  # everything here could leave if it were not pinned
            return
        for victim in victims:
            assert not any(digest == victim for digest, _ in self.pins)
            self.here.remove(victim)
            self.shares.drop(victim)
        self.check_whom_it_was_taken_from(tenant, cost, victims, users, before)
        self.count += 1
        self.here.append(f"{tenant}{self.count}")
        self.shares.charge(self.here[-1], tenant, cost)
        assert self.size() <= 4

    def check_whom_it_was_taken_from(
        self,
        tenant: str,
        cost: int,
        victims: tuple[str, ...],
        users: dict[str, tuple[str, ...]],
        held: dict[str, Fraction],
    ) -> None:
        """A tenant that lost an adapter to one that keeps some of its own had at least as much as that one has now."""
        for victim in victims:
            others = [user for user in users[victim] if user in self.present]
            if tenant not in others and self.shares.spare(tenant):
                assert all(held[user] >= self.shares.held(tenant) + cost for user in others)

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from("abc"))
    def use(self, index: int, tenant: str) -> None:
        self.present.add(tenant)
        digest = self.here[index % len(self.here)]
        self.shares.charge(digest, tenant)
        assert tenant in self.shares.users(digest)

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from("abc"))
    def pin(self, index: int, tenant: str) -> None:
        digest = self.here[index % len(self.here)]
        self.shares.pin(digest, tenant)
        self.pins.add((digest, tenant))

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from(["a", "b", "c", None]))
    def unpin(self, index: int, tenant: str | None) -> None:
        digest = self.here[index % len(self.here)]
        self.shares.unpin(digest, tenant)
        self.pins -= {(digest, user) for user in "abc" if tenant in (None, user)}

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        digest = self.here.pop(index % len(self.here))
        self.shares.drop(digest)
        self.pins -= {(digest, user) for user in "abc"}

    @rule(tenant=st.sampled_from("abc"))
    def go(self, tenant: str) -> None:
        self.present.discard(tenant)

    @invariant()
    def accounts_are_whole(self) -> None:
        self.shares.check_integrity(self.here)
        assert len(self.shares) == len(self.here)
        assert sum(self.shares.holdings().values()) == self.size()
        assert set(self.shares.pinned) == {digest for digest, _ in self.pins}
        for tenant in "abc":
            mine = [digest for digest, user in self.pins if user == tenant]
            assert self.shares.pinned_cost(tenant) == sum(self.shares.cost(digest) for digest in mine)


TestShares = ShareMachine.TestCase


def test_integrity_sees_an_adapter_nobody_pays_for() -> None:
    shares = make_shares()
    shares.charge("a", "t")
    with pytest.raises(RuntimeError, match="charged, whole"):
        shares.check_integrity(["a", "b"])
    shares._pins["never here"] = {"t"}
    with pytest.raises(RuntimeError, match="pinned that is not here"):
        shares.check_integrity(["a"])
    shares._pins = {"a": {"u"}}
    with pytest.raises(RuntimeError, match="not charged to who pinned it"):
        shares.check_integrity(["a"])
