import random

from hypothesis import given
from hypothesis import strategies as st

from headmix_server.supervisor.restart_policy import (
    FIRST_PAUSE_SECONDS,
    JITTER,
    LONGEST_PAUSE_SECONDS,
    RestartPolicy,
)


class _Middle(random.Random):
    """A random source that always returns the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def _pauses(policy: RestartPolicy, times: list[float], *, was_ready: bool = True) -> list[float | None]:
    return [policy.died(now, was_ready=was_ready) for now in times]


def test_pauses_double_from_half_a_second_to_half_a_minute() -> None:
    policy = RestartPolicy(100, 1e6, chance=_Middle())
    assert _pauses(policy, [float(n) for n in range(9)]) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_one_death_more_than_the_limit_within_the_window_is_a_crash_loop() -> None:
    assert _pauses(RestartPolicy(2, 10, chance=_Middle()), [0, 1, 2]) == [0.5, 1, None]


def test_deaths_older_than_the_window_are_forgiven() -> None:
    assert _pauses(RestartPolicy(1, 10, chance=_Middle()), [0, 10, 20]) == [0.5, 0.5, 0.5]


def test_starts_that_fail_slower_than_the_window_are_a_crash_loop_all_the_same() -> None:
    policy = RestartPolicy(2, 10, chance=_Middle())
    assert _pauses(policy, [0, 100, 200], was_ready=False) == [0.5, 1, None]


def test_a_limit_of_zero_allows_no_restart() -> None:
    assert RestartPolicy(0, 10).died(0, was_ready=True) is None


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=40), st.integers(0, 2**32))
def test_every_pause_is_positive_and_bounded_whatever_the_times(gaps: list[float], seed: int) -> None:
    policy = RestartPolicy(1000, 300, chance=random.Random(seed))
    now = 0.0
    for gap in gaps:
        now += gap
        pause = policy.died(now, was_ready=True)
        assert pause is not None
        assert FIRST_PAUSE_SECONDS * (1 - JITTER) <= pause <= LONGEST_PAUSE_SECONDS * (1 + JITTER)
