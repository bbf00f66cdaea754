"""Each tenant has its own line in the queue; a full queue is shared."""

import pytest

from harness.engine.engines import adapter, generate
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.scheduling.wait_queue import WaitQueue
from headmix_server.engine.sequence import Sequence

A, B = adapter("a"), adapter("b")


def fill(queue: WaitQueue, tenants: str) -> None:
    for tenant in tenants:
        number = len(queue)
        message = generate(f"r{number}", [1], A if number % 2 else B, tenant=tenant)
        queue.join(Sequence.from_message(number, message, 0.0))
        queue.check_integrity()


def test_who_has_begun_before_goes_to_the_head_of_its_line() -> None:
    queue = WaitQueue(VirtualCounters(), VirtualCounters())
    fill(queue, "aab")
    first = queue.remove(0)
    assert first is not None
    queue.rejoin(first)
    second = queue.remove(1)
    assert second is not None
    queue.rejoin(second)
    assert {tenant: list(line) for tenant, line in queue.lines().items()} == {"a": [1, 0], "b": [2]}
    queue.check_integrity()


def test_wanted_adapters_are_reported_with_their_first_place_once_per_tenant() -> None:
    queue = WaitQueue(VirtualCounters(), VirtualCounters())
    fill(queue, "aabb")
    assert queue.wanted() == {B.digest: 0, A.digest: 1}
    assert list(queue.asked()) == [("a", B), ("a", A), ("b", B), ("b", A)]
    queue.remove(1)
    assert list(queue.asked()) == [("a", B), ("b", B), ("b", A)]
    assert queue.remove(1) is None


@pytest.mark.parametrize(
    ("waiting", "weights", "tenant", "displaced"),
    [
        ("aaaa", {}, "b", 3),
        ("aaab", {}, "b", 2),
        ("aabb", {}, "b", None),
        ("abcd", {}, "e", None),
        ("aaaa", {}, "a", None),
        ("aabbb", {"b": 3.0}, "c", 1),
        ("aabbb", {"a": 3.0}, "c", 4),
    ],
)
def test_a_full_queue_gives_up_the_newest_of_the_longest_line_to_a_shorter_one(
    waiting: str, weights: dict[str, float], tenant: str, displaced: int | None
) -> None:
    queue = WaitQueue(VirtualCounters(weights), VirtualCounters())
    fill(queue, waiting)
    victim = queue.displaceable(tenant)
    assert (None if victim is None else victim.sequence_id) == displaced


def test_what_has_begun_before_is_never_displaced() -> None:
    queue = WaitQueue(VirtualCounters(), VirtualCounters())
    fill(queue, "aabbb")
    for sequence in queue.lines()["b"].values():
        sequence.queue_seconds = 0.1
    victim = queue.displaceable("c")
    assert victim is not None
    assert victim.sequence_id == 1


def test_integrity_sees_lines_that_do_not_match() -> None:
    queue = WaitQueue(VirtualCounters(), VirtualCounters())
    fill(queue, "ab")
    queue.lines()["a"].popitem()
    with pytest.raises(RuntimeError, match="do not hold what waits"):
        queue.check_integrity()
