"""Work in a process of its own: its result, or one of the ways in which the process ends; nothing of it is left."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headmix_server.core.errors import PayloadTooLarge, ServerOverloaded
from headmix_server.text.workers.apart import TooMuchWorkError, run_apart

PATIENCE_SECONDS = 60.0


def compute() -> bytes:
    while True:
        pass


def fill() -> bytes:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
    return bytes(1 << 40)


def abort() -> bytes:
    os.abort()


def leave() -> bytes:
    os._exit(0)


def fail() -> bytes:
    raise KeyError


def test_the_result_comes_from_another_process_that_has_ended() -> None:
    pid = int(run_apart(lambda: str(os.getpid()).encode(), 10))
    assert pid != os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_large_result_passes_whole() -> None:
    assert run_apart(lambda: b"x" * (1 << 20), 10) == b"x" * (1 << 20)


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (compute, TooMuchWorkError),
        (fill, PayloadTooLarge),
        (abort, PayloadTooLarge),
        (leave, ServerOverloaded),
        (fail, ServerOverloaded),
    ],
)
def test_each_way_of_ending_is_told_from_the_others(work: Callable[[], bytes], error: type[Exception]) -> None:
    before = sorted(Path("/dev/fd").iterdir())
    with pytest.raises(error):
        run_apart(work, 0.1)
    assert sorted(Path("/dev/fd").iterdir()) == before


def test_only_what_the_work_itself_computes_counts() -> None:
    def wait() -> bytes:
        time.sleep(0.3)
        return b"rested"

    assert run_apart(wait, 0.1) == b"rested"


PARENT = """
import os, sys, time
from headmix_server.text.workers.apart import run_apart

def work():
    print(os.getpid(), flush=True)
    time.sleep(1000)

run_apart(work, 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_it_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while _runs(child):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
