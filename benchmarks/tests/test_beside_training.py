import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.beside_training import BLOCK, BURST, PAUSE_SECONDS, bursts, in_turns, stopped


def test_requests_come_in_bursts_with_pauses_in_which_an_idle_worker_trains() -> None:
    pauses: list[float] = []
    assert bursts(lambda: 0.1, 2 * BURST + 1, pauses.append) == [0.1] * (2 * BURST + 1)
    assert pauses == [PAUSE_SECONDS] * 3


def test_blocks_beside_the_job_and_alone_take_turns_and_each_begins_as_often() -> None:
    training, order = [True], []

    @contextmanager
    def without_training() -> Iterator[None]:
        training[0] = False
        yield
        training[0] = True

    def ask() -> float:
        order.append(training[0])
        return 0.2 if training[0] else 0.1

    alone, beside = in_turns(ask, 2 * BLOCK, without_training, lambda _: None)
    assert (alone, beside) == ([0.1] * 2 * BLOCK, [0.2] * 2 * BLOCK)
    assert order == [True] * BLOCK + [False] * 2 * BLOCK + [True] * BLOCK


def test_a_process_that_was_stopped_before_stays_so() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command) as one, subprocess.Popen(command) as other:
        try:
            running, waiting = psutil.Process(one.pid), psutil.Process(other.pid)
            waiting.suspend()
            wait_for_status(waiting, psutil.STATUS_STOPPED)
            with stopped([running, waiting]):
                wait_for_status(running, psutil.STATUS_STOPPED)
            while running.status() == psutil.STATUS_STOPPED:
                pass
            assert waiting.status() == psutil.STATUS_STOPPED
        finally:
            one.kill()
            other.kill()


def wait_for_status(process: psutil.Process, status: str) -> None:
    while process.status() != status:
        if not process.is_running():
            pytest.fail("the process has ended")
