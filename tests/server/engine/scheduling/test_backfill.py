"""Others may start before a request that does not fit: for a while, and never further ahead than the paper's bound."""

from harness.engine.engines import adapter, classify, generate
from headmix_server.engine.scheduling.backfill import FIT_PATIENCE_SECONDS, Backfill
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.sequence import Sequence


def sequence(tenant: str, prompt: int, outputs: int) -> Sequence:
    return Sequence.from_message(0, generate("r", [1] * prompt, tenant=tenant, max_tokens=outputs), 0.0)


def test_everybody_may_start_while_everybody_fits() -> None:
    assert Backfill(VirtualCounters(), [], 0.0, 0.0).allows(sequence("a", 1000, 1000))


def test_who_starts_stays_within_the_slack_with_all_that_runs_for_its_tenant() -> None:
    overtaking = Backfill(VirtualCounters(), [sequence("a", 10, 20), sequence("b", 99, 99)], 100.0, 0.0)
    overtaking.block(sequence("large", 1, 1))
    assert overtaking.allows(sequence("a", 10, 15))  # 50 run already, 40 with this one
    assert not overtaking.allows(sequence("a", 1, 5))
    assert overtaking.allows(sequence("a", 2, 4))
    assert not overtaking.allows(sequence("b", 1, 1))


def test_a_weight_divides_what_is_owed() -> None:
    overtaking = Backfill(VirtualCounters({"a": 4.0}), [], 100.0, 0.0)
    overtaking.block(sequence("large", 1, 1))
    assert overtaking.allows(sequence("a", 200, 100))


def test_a_classification_owes_its_prompt_only() -> None:
    overtaking = Backfill(VirtualCounters(), [], 10.0, 0.0)
    overtaking.block(sequence("large", 1, 1))
    assert overtaking.allows(Sequence.from_message(0, classify("r", [1] * 10, adapter("c2")), 0.0))


def test_patience_counts_from_when_it_was_first_its_turn() -> None:
    large = sequence("large", 1, 1)
    for now, allowed in ((1.0, True), (1.0 + FIT_PATIENCE_SECONDS / 2, True), (1.0 + FIT_PATIENCE_SECONDS, False)):
        overtaking = Backfill(VirtualCounters(), [], 100.0, now)
        overtaking.block(large)
        assert overtaking.allows(sequence("a", 1, 1)) == allowed


def test_who_starts_may_be_as_far_ahead_as_the_slack_beyond_what_the_first_has_had() -> None:
    counters = VirtualCounters()
    counters.charge("large", outputs=25)
    for outputs, allowed in ((20, True), (30, False)):
        overtaking = Backfill(counters, [], 0.0, 0.0)
        overtaking.block(sequence("large", 1, 1))
        assert overtaking.allows(sequence("a", 1, outputs)) == allowed


def test_what_was_charged_already_is_not_owed_again() -> None:
    begun = sequence("a", 40, 5)
    begun.num_charged = 35
    overtaking = Backfill(VirtualCounters(), [], 15.0, 0.0)
    overtaking.block(sequence("large", 1, 1))
    assert overtaking.allows(begun)
