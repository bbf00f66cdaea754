"""The compute thread: one for all steps, one signal per step, and no step without an outcome."""

import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq

import pytest
import zmq

from headmix_server.core.runner import Batch, RowResult
from headmix_server.engine.step_thread import StepThread

NOTHING = Batch(())
WAIT_MS = 10_000

Make = Callable[[Callable[[Batch], Seq[RowResult]]], StepThread]


@pytest.fixture
def make() -> Iterator[Make]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[StepThread] = []

    def start(run: Callable[[Batch], Seq[RowResult]]) -> StepThread:
        made.append(StepThread(run, context))
        return made[-1]

    yield start
    for thread in made:
        thread.close()
    context.term()


def test_every_step_has_its_own_outcome_and_signal_and_one_thread(make: Make) -> None:
    threads = []

    def run(batch: Batch) -> list[RowResult]:
        threads.append(threading.get_ident())
        return [RowResult(len(threads))]

    steps = make(run)
    for number in (1, 2, 3):
        steps.start(NOTHING)
        assert steps.landed.poll(WAIT_MS)
        assert steps.take() == [RowResult(number)]
        assert not steps.landed.poll(0)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_a_step_that_raises_is_an_outcome_and_the_next_one_runs(make: Make) -> None:
    def run(batch: Batch) -> list[RowResult]:
        faults.append(ValueError("no"))
        raise faults[-1]

    faults: list[ValueError] = []
    steps = make(run)
    for _ in range(2):
        steps.start(NOTHING)
        assert steps.take() is faults[-1]
    assert len(faults) == 2


def test_what_ends_the_thread_is_an_outcome_too(make: Make) -> None:
    def run(batch: Batch) -> list[RowResult]:
        raise SystemExit

    steps = make(run)
    steps.start(NOTHING)
    assert isinstance(steps.take(), SystemExit)


def test_closing_lets_the_step_in_flight_land(make: Make) -> None:
    landed = []
    reached, opened = threading.Event(), threading.Event()

    def run(batch: Batch) -> list[RowResult]:
        reached.set()
        opened.wait()
        landed.append(batch)
        return []

    steps = make(run)
    steps.start(NOTHING)
    reached.wait()
    threading.Timer(0.01, opened.set).start()
    steps.close()
    assert landed == [NOTHING]
