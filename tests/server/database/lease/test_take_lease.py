"""Which server gets the lease at startup, on a clock that only the test moves."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from headmix_server.database import Holder, Lease, LeaseHeldError, take_lease

SECONDS = 10.0
BEAT = SECONDS / 5


class Time:
    """Simulated time. `at` schedules what others than the sleeper do: functions by their time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.at: list[tuple[float, Callable[[], object]]] = []

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((event for event in self.at if event[0] <= end), key=lambda event: event[0]):
            self.at.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end

    def every(self, seconds: float, act: Callable[[], object], *, until: float = 1e9) -> None:
        def act_again() -> None:
            if self.now <= until:
                act()
                self.at.append((self.now + seconds, act_again))

        self.at.append((self.now + seconds, act_again))


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def first(engine: Engine, time: Time) -> Lease:
    """A server that has just taken the lease."""
    lease = Lease(engine, Holder("first", SECONDS, "host:1"))
    take_lease(lease, clock=lambda: time.now, sleep=time.pass_)
    return lease


def take(engine: Engine, time: Time, place: str = "", *, rate: float = 1.0, offset: float = 0.0) -> float:
    """Make a second server try; return how long it took. Its clock may be ahead and run at another rate."""
    began = time.now
    lease = Lease(engine, Holder("second", SECONDS, place))
    take_lease(lease, clock=lambda: offset + rate * time.now, sleep=time.pass_)
    return time.now - began


def test_a_lease_that_nobody_has_or_that_was_given_back_is_taken_at_once(
    engine: Engine, time: Time, first: Lease
) -> None:
    assert first.is_held()
    assert first.release()
    assert take(engine, time) == 0
    assert not first.is_held()
    assert not first.release()


def test_a_live_server_is_detected_within_one_of_its_beats(engine: Engine, time: Time, first: Lease) -> None:
    time.every(BEAT, first.renew)
    began = time.now
    with pytest.raises(LeaseHeldError, match=r"in use by another headmix server \(first\)"):
        take(engine, time)
    assert time.now - began <= BEAT + 1
    assert first.is_held()


@pytest.mark.parametrize("offset", [-1e6, 0.0, 1e9])
@pytest.mark.parametrize("rate", [0.95, 1.0, 1.05])
def test_a_lease_of_a_server_that_is_gone_is_taken_as_soon_as_it_has_ended_whatever_the_clocks_show(
    engine: Engine, time: Time, first: Lease, offset: float, rate: float
) -> None:
    time.every(BEAT, first.renew, until=time.now + 3 * BEAT)
    time.pass_(3.5 * BEAT)
    waited = take(engine, time, rate=rate, offset=offset)
    assert SECONDS / rate <= waited <= SECONDS / rate + 2
    assert not first.is_held()


def test_a_server_that_is_gone_from_the_same_place_is_followed_at_once(
    engine: Engine, time: Time, first: Lease
) -> None:
    assert take(engine, time, "host:1") == 0
    assert not first.is_held()


def test_an_unknown_place_matches_no_other(engine: Engine, time: Time) -> None:
    take_lease(Lease(engine, Holder("first", SECONDS)), clock=lambda: time.now)
    assert take(engine, time) >= SECONDS


def test_the_holder_determines_the_length_of_the_lease(engine: Engine, time: Time) -> None:
    take_lease(Lease(engine, Holder("first", 3 * SECONDS)), clock=lambda: time.now)
    assert take(engine, time) >= 3 * SECONDS


def test_one_of_two_waiting_servers_gets_the_lease(engine: Engine, time: Time, first: Lease) -> None:
    del first
    time.pass_(0.5)
    third = Lease(engine, Holder("third", SECONDS))

    def come_first() -> None:
        assert third.take(third.look())
        time.every(BEAT, third.renew)

    time.at.append((time.now + SECONDS - 0.5, come_first))
    with pytest.raises(LeaseHeldError, match="third"):
        take(engine, time)
    assert third.is_held()


def test_a_lease_that_changed_since_it_was_read_is_not_taken(engine: Engine, time: Time, first: Lease) -> None:
    second = Lease(engine, Holder("second", SECONDS))
    seen = second.look()
    first.renew()
    assert not second.take(seen)
    assert first.is_held()


def test_time_without_looking_counts_little(engine: Engine, time: Time, first: Lease) -> None:
    """A starting server that was frozen may have missed the same outage as the holder."""
    sleeps = iter([100.0, 100.0])
    lease = Lease(engine, Holder("second", SECONDS))

    def sleep(seconds: float) -> None:
        time.pass_(next(sleeps, seconds))

    time.at.append((time.now + 200, lambda: time.every(BEAT, first.renew)))
    with pytest.raises(LeaseHeldError):
        take_lease(lease, clock=lambda: time.now, sleep=sleep)
    assert first.is_held()
