import pytest

from headmix_server.training.pauses import FIRST_SECONDS, LAST_SECONDS, LONGEST_SECONDS, Pauses
from tests.support.clocks.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pauses(clock: FakeClock) -> Pauses:
    return Pauses(clock)


def test_pauses_grow_up_to_the_longest_and_begin_anew_after_a_job_that_met_no_failure(pauses: Pauses) -> None:
    lengths = [pauses.failed(f"job-{number}") for number in range(20)]
    assert lengths[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert lengths[-1] == LONGEST_SECONDS
    pauses.worked("job-1")
    assert pauses.failed("job-2") == FIRST_SECONDS


def test_a_pause_is_over_after_its_seconds(pauses: Pauses, clock: FakeClock) -> None:
    seen = [pauses.is_on]
    pauses.failed("job")
    seen.append(pauses.is_on)
    clock.now += FIRST_SECONDS
    seen.append(pauses.is_on)
    assert seen == [False, True, False]


def test_a_job_that_met_a_failure_comes_after_others_for_some_time(pauses: Pauses, clock: FakeClock) -> None:
    pauses.failed("large")
    clock.now += LAST_SECONDS / 2
    pauses.failed("other")
    seen = [pauses.last]
    pauses.failed("large")
    seen.append(pauses.last)
    pauses.worked("other")
    seen.append(pauses.last)
    clock.now += LAST_SECONDS
    seen.append(pauses.last)
    assert seen == [("large", "other"), ("other", "large"), ("large",), ()]
