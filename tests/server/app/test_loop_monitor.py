"""The loop's lag is measured, exported and logged; and the tests' own watchdog detects blocking."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from headmix_server.app.loop_monitor import LOG_SECONDS, LoopMonitor
from headmix_server.core.observability.metrics import Metrics
from tests.support.clocks.loop_time import loop_time


class _Clock:
    """A clock that stands still unless moved, and stops a reader that asks too often."""

    def __init__(self, *readings: float) -> None:
        self._readings = iter(readings)

    def __call__(self) -> float:
        try:
            return next(self._readings)
        except StopIteration:
            raise asyncio.CancelledError from None


def _compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def _run(*, wall: _Clock, cpu: _Clock, bound: float, observe: Callable[[float], None]) -> None:
    monitor = LoopMonitor(observe, bound=bound, interval=0.0, clock=wall, cpu_clock=cpu)
    with contextlib.suppress(asyncio.CancelledError):
        await monitor.run()


async def test_the_lag_is_how_late_a_timer_runs() -> None:
    lags: list[float] = []
    await _run(wall=_Clock(0.0, 0.25, 1.0, 1.0, 2.0, 1.9), cpu=_Clock(*[0.0] * 6), bound=9.0, observe=lags.append)
    assert lags == [0.25, 0.0, 0.0]


async def test_a_lag_above_the_bound_is_one_plain_line_that_distinguishes_computing_from_waiting() -> None:
    later = 4.0 + LOG_SECONDS
    # Measured from and to, and for what is above the bound the time of the line.
    wall = _Clock(0.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.5, 4.6, 5.0, later, later)
    with capture_logs() as lines:
        await _run(wall=wall, cpu=_Clock(0.0, 2.9, 3, 3, 3, 3, 3, 3.1), bound=1.0, observe=lambda _: None)
    events = [(line["event"], line["seconds"], line["loop_cpu_seconds"], line["not_logged"]) for line in lines]
    text = "the event loop was blocked"
    assert events == [(text, 3.0, 2.9, 0), (text, round(later - 5.0, 3), 0.1, 1)]


async def test_it_sees_a_real_callback_that_blocks_and_exports_it() -> None:
    metrics = Metrics(series=1, version="0", base="base")
    with capture_logs() as lines:
        task = asyncio.create_task(LoopMonitor(metrics.loop_lag.observe, bound=0.1, interval=0.01).run())
        await asyncio.sleep(0.03)
        time.sleep(0.3)  # noqa: ASYNC251 - the fault to detect
        await asyncio.sleep(0.05)
        task.cancel()
    assert any(line["event"] == "the event loop was blocked" and line["seconds"] >= 0.1 for line in lines)
    text = metrics.render(tenants=False)[0].decode()
    buckets = {
        line.split()[0]: float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("headmix_event_loop_lag")
    }
    assert buckets['headmix_event_loop_lag_seconds_bucket{le="+Inf"}'] > 0
    assert buckets["headmix_event_loop_lag_seconds_sum"] >= 0.1


async def _in_a_task(work: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    work()


async def test_the_tests_watchdog_fails_on_a_callback_that_computes_too_long_and_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.support.clocks.loop_time.is_traced", lambda: False)
    with pytest.raises(AssertionError, match=r"blocked.*_in_a_task"), loop_time():
        await asyncio.create_task(_in_a_task(lambda: _compute(0.1)))


async def test_the_tests_watchdog_judges_nothing_under_a_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.clocks.loop_time.is_traced", lambda: True)
    with loop_time() as measured:
        await asyncio.create_task(_in_a_task(lambda: _compute(0.1)))
    assert measured.blocked


async def test_the_tests_watchdog_does_not_count_waiting_other_threads_or_the_rest_of_the_machine() -> None:
    with loop_time() as measured:
        await asyncio.create_task(_in_a_task(lambda: time.sleep(0.2)))
        await asyncio.to_thread(_compute, 0.2)
        for _ in range(5):
            await asyncio.create_task(_in_a_task(lambda: _compute(0.015)))
    assert measured.longest >= 0.015
