import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from headmix_server.device.threads import as_places, compute_with, computing_alone, on_passing_thread, stay_on_cores
from headmix_server.kernels.native.loading import load_native

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


CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
NATIVE = sys.platform == "linux" and load_native()
STAYING = """
import json, os, threading
import torch
from headmix_server.device.threads import as_places, stay_on_cores

places, found = as_places([[cpu] for cpu in sorted(os.sched_getaffinity(0))][:2]), {}

def bound():
    masks = {int(tid): os.sched_getaffinity(int(tid)) for tid in os.listdir("/proc/self/task")}
    return {tid: next(iter(mask)) for tid, mask in masks.items() if len(mask) == 1}

def work():
    torch.set_num_threads(2)
    stay_on_cores(places)
    found["first"] = bound()
    for tid, other in zip(found["first"], reversed(found["first"].values())):
        os.sched_setaffinity(tid, {other})  # as a thread that another one of the team has started
    found["staying"] = stay_on_cores(places)
    found["then"] = bound()

main = threading.Thread(target=work)
main.start()
main.join()
print(json.dumps([found["first"], found["staying"], found["then"], sorted(os.sched_getaffinity(0))]))
"""


@pytest.mark.skipif(not NATIVE or CPUS < 2, reason="threads stay on cores on Linux, by the native library")
def test_each_thread_of_a_team_stays_on_its_core_and_comes_back_to_it() -> None:
    done = subprocess.run([sys.executable, "-c", STAYING], capture_output=True, text=True, check=True, timeout=100)
    first, staying, then, main = json.loads(done.stdout.splitlines()[-1])
    assert staying == 2
    assert sorted(first.values()) == sorted(os.sched_getaffinity(0))[:2]
    assert then == first
    assert main == sorted(os.sched_getaffinity(0))  # the thread that started it all moves freely


@pytest.mark.skipif(not NATIVE, reason="threads stay on cores on Linux, by the native library")
def test_places_of_unequal_sizes_are_one_table_and_those_that_do_not_exist_hold_nothing() -> None:
    places = as_places([[0, 8], [1]])
    assert places is not None
    assert places.tolist() == [[0, 8], [1, -1]]
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(stay_on_cores(torch.tensor([[1 << 20]]))))
    thread.start()
    thread.join()
    assert seen == [0]
    with pytest.raises(RuntimeError, match="int64"):
        stay_on_cores(torch.zeros(2, 2))


def test_without_cores_there_are_no_places() -> None:
    assert as_places(None) is None
