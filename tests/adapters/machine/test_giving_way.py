"""Long work gives way while it runs, short work and what comes after it do not."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from headmix_adapters.machine.giving_way import LONG_NICENESS, SHORT_SECONDS, give_way_when_long, stand_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a priority per thread is Linux'")
PATIENCE_SECONDS = 60.0


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def compute_until_low() -> float:
    """Compute until this thread has the low priority; return the processor time that took."""
    began = time.monotonic()
    while niceness() < LONG_NICENESS:
        assert time.monotonic() - began < PATIENCE_SECONDS
    return time.thread_time()


def test_long_work_gets_a_low_priority_while_it_runs_and_the_caller_keeps_its_own() -> None:
    before = niceness()
    assert give_way_when_long(compute_until_low) >= SHORT_SECONDS
    assert niceness() == before


def test_short_work_keeps_the_priority_also_after_long_work() -> None:
    give_way_when_long(compute_until_low)
    assert give_way_when_long(niceness) == niceness()


def test_work_that_waits_is_not_long() -> None:
    def wait() -> int:
        time.sleep(2 * SHORT_SECONDS)
        return niceness()

    assert give_way_when_long(wait) == niceness()


def test_work_is_long_only_after_the_time_that_it_is_given() -> None:
    assert give_way_when_long(compute_until_low, after=3 * SHORT_SECONDS) >= 3 * SHORT_SECONDS


def test_a_thread_of_still_lower_priority_keeps_it() -> None:
    def lower() -> int:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LONG_NICENESS + 3)
        stand_back(threading.current_thread())
        return niceness()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lower).result() == LONG_NICENESS + 3


def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        give_way_when_long(fail)


def test_a_thread_that_may_not_stand_back_goes_on_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid)
    with ThreadPoolExecutor(1) as pool:
        assert not stand_back(pool.submit(threading.current_thread).result())
