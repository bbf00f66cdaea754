import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from headmix_server.device.threads import compute_with, computing_alone, on_passing_thread

COUNTING = """
import json, threading, time
from pathlib import Path
import torch
from headmix_server.device.threads import computing_alone, on_passing_thread

torch.set_num_threads(2)

def compute():
    return float((torch.ones(1 << 20) * 2).sum())  # enough for torch to share the work out

def alone():
    with computing_alone():
        compute()

def num_threads():
    return len(list(Path("/proc/self/task").iterdir()))

def left_by(call, expected):
    # In a thread that stays, and is not counted; threads that end take a moment.
    before, counts = num_threads(), []

    def work():
        call()
        patience = time.monotonic() + 10
        while num_threads() - before - 1 != expected and time.monotonic() < patience:
            time.sleep(0.01)
        counts.append(num_threads() - before - 1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    while num_threads() != before:  # its own team ends with it
        time.sleep(0.01)
    return counts[0]

print(json.dumps([left_by(compute, 1), left_by(alone, 0), left_by(lambda: on_passing_thread(compute), 0)]))
"""
"""Run in its own process: in one that runs many tests, other threads come and go."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_only_a_thread_that_computes_together_and_stays_has_a_team() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True, timeout=100)
    together, alone, passing = json.loads(done.stdout)
    assert (together, alone, passing) == (1, 0, 0)


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
