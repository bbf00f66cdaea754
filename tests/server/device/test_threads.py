import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from headmix_server.device.threads import compute_with, computing_alone, on_passing_thread

NUMEL = 1 << 20
"""Enough for torch to share the work out."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def compute() -> float:
    return float((torch.ones(NUMEL) * 2).sum())


def num_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def threads_added_by(call: Callable[[], object], expected: int) -> int:
    """The system's threads that a call leaves behind in a thread that stays, that thread not counted.

    Threads that end take a moment, so the number is waited for; what stays is counted all the same.
    """
    before = num_threads()
    counts = []

    def work() -> None:
        call()
        patience = time.monotonic() + 5
        while num_threads() - before - 1 != expected and time.monotonic() < patience:
            time.sleep(0.01)
        counts.append(num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return counts[0] - before - 1


def test_a_thread_that_computes_together_has_a_team() -> None:
    assert threads_added_by(compute, 1) == 1


def test_a_thread_that_computes_alone_has_none() -> None:
    def alone() -> None:
        with computing_alone():
            assert compute() == 2 * NUMEL

    assert threads_added_by(alone, 0) == 0


def test_what_is_built_on_a_passing_thread_leaves_no_team_behind() -> None:
    assert threads_added_by(lambda: on_passing_thread(compute), 0) == 0


def test_computing_alone_ends_where_it_ends_even_by_an_error() -> None:
    def fail() -> None:
        with computing_alone():
            assert torch.get_num_threads() == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == 2


def test_a_passing_thread_gives_back_what_the_call_returns_or_raises() -> None:
    assert on_passing_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        on_passing_thread(lambda: 1 // 0)


def test_a_thread_computes_with_the_number_it_was_told_whatever_others_set() -> None:
    seen = []

    def work() -> None:
        compute_with(3)
        other = threading.Thread(target=lambda: torch.set_num_threads(1))
        other.start()
        other.join()
        compute_with(3)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [3]
    assert torch.get_num_threads() == 2
