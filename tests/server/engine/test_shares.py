"""Who gives up an adapter: who has most for its weight, never one that has less than who asks."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.shares import make_shares


def test_room_is_taken_from_the_tenant_that_holds_most_for_its_weight() -> None:
    shares = make_shares("ab", {"a": 3.0})
    for digest in ("a1", "a2", "a3", "b1", "b2"):
        shares.charge(digest, digest[0])
    assert shares.choose_victim(["a1", "a2", "a3", "b1", "b2"], {}, "c") == "b1"


def test_who_would_end_with_more_gives_up_its_own() -> None:
    shares = make_shares("ab")
    for digest in ("b1", "a1", "a2"):
        shares.charge(digest, digest[0])
    assert shares.choose_victim(["b1", "a1", "a2"], {}, "a") == "a1"
    assert not shares.has_room(shares.room_in(["b1"]), "a")
    assert shares.has_room(shares.room_in(["a1"]), "b")


def test_what_absent_tenants_hold_is_anybodys() -> None:
    shares = make_shares("a")
    for digest in ("a1", "a2", "gone"):
        shares.charge(digest, digest[0])
    assert shares.choose_victim(["a1", "a2", "gone"], {}, "a") == "gone"


def test_a_tenant_that_has_nothing_to_give_up_may_always_take() -> None:
    shares = make_shares("ab", {"b": 0.1})
    shares.charge("a1", "a")
    assert shares.choose_victim(["a1"], {}, "b") == "a1"
    shares.charge("b1", "b")
    shares.pin("b1")
    assert shares.choose_victim(["b1", "a1"], {}, "b") == "a1"


def test_a_shared_adapter_stays_with_its_payer_while_that_is_present() -> None:
    present = ["a", "b"]
    shares = make_shares(present)
    shares.charge("x", "a")
    shares.charge("x", "b")
    assert shares.payer("x") == "a"
    present.remove("a")
    shares.charge("x", "b")
    assert shares.payer("x") == "b"
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
    shares.look_again()
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


class ShareMachine(RuleBasedStateMachine):
    """Three tenants fill four places by the rules; whoever is present never falls below its part by another's doing."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = make_shares("abc")
        self.here: list[str] = []
        self.count = 0

    @rule(tenant=st.sampled_from("abc"))
    def bring(self, tenant: str) -> None:
        held = {t: self.shares.held(t) for t in "abc"}
        if len(self.here) == 4 and self.shares.has_room(self.shares.room_in(self.here), tenant):
            victim = self.shares.choose_victim(self.here, {}, tenant)
            payer = self.shares.payer(victim)
            own = [digest for digest in self.here if digest[0] == tenant and digest not in self.shares.pinned]
            assert victim not in self.shares.pinned
            assert payer == tenant or held[payer] > held[tenant] or not own
            self.here.remove(victim)
            self.shares.drop(victim)
        if len(self.here) < 4:
            self.count += 1
            self.here.append(f"{tenant}{self.count}")
            self.shares.charge(self.here[-1], tenant)

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9))
    def pin(self, index: int) -> None:
        self.shares.pin(self.here[index % len(self.here)])

    @precondition(lambda self: self.here)
    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        self.shares.drop(self.here.pop(index % len(self.here)))

    @invariant()
    def accounts_are_whole(self) -> None:
        self.shares.check_integrity(self.here)
        assert len(self.shares) == len(self.here)


TestShares = ShareMachine.TestCase


def test_integrity_sees_an_adapter_nobody_pays_for() -> None:
    shares = make_shares()
    shares.charge("a", "t")
    with pytest.raises(RuntimeError, match="charged to exactly one"):
        shares.check_integrity(["a", "b"])
    shares.pin("never here")
    with pytest.raises(RuntimeError, match="pinned that is not here"):
        shares.check_integrity(["a"])
