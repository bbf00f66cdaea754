from headmix_server.core.circuit_breaker import CircuitBreaker
from tests.support.clocks.fake_clock import FakeClock


def test_after_a_failure_one_may_try_each_time_and_after_a_success_all() -> None:
    clock, failures = FakeClock(), list[int]()
    breaker = CircuitBreaker(5.0, clock=clock, on_failure=lambda: failures.append(1))
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    breaker.failed()
    assert [breaker.allows() for _ in range(3)] == [False] * 3
    clock.now += 5.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()
    assert breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    assert not breaker.succeeded()
    assert len(failures) == 2


def test_a_try_whose_end_is_never_reported_does_not_keep_others_out_forever() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(5.0, clock=clock)
    breaker.failed()
    clock.now += 5.0
    assert breaker.allows()
    clock.now += 5.0
    assert breaker.allows()
