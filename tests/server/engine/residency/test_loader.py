"""Loads run in parallel to the engine, once each, and always end with a result."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from harness.engine.engines import FakeDisk, adapter
from headmix_adapters.machine.giving_way import LONG_NICENESS
from headmix_server.core.runner import AdapterLoadError
from headmix_server.core.types import AdapterRef
from headmix_server.engine.fake_runner import FakeAdapter
from headmix_server.engine.residency import loader as loader_module
from headmix_server.engine.residency.loader import AdapterLoader, LoadDone

A, B = adapter("a"), adapter("b")


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def loader(disk: FakeDisk) -> Iterator[AdapterLoader]:
    loader = AdapterLoader(disk.open, 2)
    yield loader
    for gate in disk.gates.values():
        gate.set()
    loader.close()


def wait(loader: AdapterLoader, count: int = 1) -> list[LoadDone]:
    done: list[LoadDone] = []
    deadline = time.monotonic() + 10
    while len(done) < count and time.monotonic() < deadline:
        done += loader.poll()
        time.sleep(0.0005)
    return done


def test_an_adapter_asked_for_twice_is_loaded_once(disk: FakeDisk, loader: AdapterLoader) -> None:
    gate = disk.gate(A)
    loader.start(A, "t")
    loader.start(A, "t")
    assert (loader.num_pending, loader.is_pending(A.digest)) == (1, True)
    gate.set()
    (done,) = wait(loader)
    assert done.outcome == FakeAdapter(A.digest)
    assert (loader.num_pending, disk.opened) == (0, ["a"])


def test_a_slow_load_does_not_hold_up_another(disk: FakeDisk, loader: AdapterLoader) -> None:
    disk.gate(A)
    loader.start(A, "t")
    loader.start(B, "t")
    (done,) = wait(loader)
    assert done.ref == B
    assert loader.is_pending(A.digest)


@pytest.mark.parametrize(
    ("fault", "missing", "text"),
    [
        (AdapterLoadError("its file is missing", missing=True), True, "its file is missing"),
        (ValueError("odd bytes"), False, "ValueError: odd bytes"),
    ],
)
def test_whatever_a_load_raises_becomes_its_outcome(
    disk: FakeDisk, loader: AdapterLoader, fault: Exception, missing: bool, text: str
) -> None:
    disk.faults["a"] = fault
    for _ in range(3):  # more often than there are threads: none may have died
        loader.start(A, "t")
        (done,) = wait(loader)
        assert isinstance(done.outcome, AdapterLoadError)
        assert (str(done.outcome), done.outcome.missing) == (text, missing)


def test_an_adapter_that_is_not_the_one_asked_for_is_refused() -> None:
    loader = AdapterLoader(lambda _: FakeAdapter(B.digest), 1)
    loader.start(A, "t")
    (done,) = wait(loader)
    loader.close()
    assert isinstance(done.outcome, AdapterLoadError)


def test_closing_begins_no_queued_load_and_does_not_wait_for_a_hung_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "CLOSE_SECONDS", 0.01)
    disk, started = FakeDisk(), threading.Event()
    gate = disk.gate(A)
    loader = AdapterLoader(_announcing(disk, started), 1)
    loader.start(A, "t")
    loader.start(B, "t")
    assert started.wait(10)
    loader.close()
    gate.set()
    for thread in loader._threads:
        thread.join(10)
    assert disk.opened == ["a"]


def _announcing(disk: FakeDisk, started: threading.Event) -> Callable[..., FakeAdapter]:
    def load(ref: object) -> FakeAdapter:
        started.set()
        assert ref == A
        return disk.open(A)

    return load


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_loads_run_behind_the_threads_that_compute() -> None:
    found: list[int] = []

    def load(ref: AdapterRef) -> FakeAdapter:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return FakeAdapter(ref.digest)

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    loader = AdapterLoader(load, 1)
    loader.start(A, "t")
    wait(loader)
    loader.close()
    assert found == [max(before, LONG_NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_a_system_that_keeps_priorities_fixed_does_not_stop_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    with capture_logs() as lines:
        loader = AdapterLoader(lambda ref: FakeAdapter(ref.digest), 1)
        loader.start(A, "t")
        (done,) = wait(loader)
        loader.close()
    assert done.outcome == FakeAdapter(A.digest)
    assert [line["event"] for line in lines] == ["background work competes with running requests as an equal"]


def test_tenants_take_turns_at_a_loader(disk: FakeDisk) -> None:
    loader = AdapterLoader(disk.open, 1)
    gate = disk.gate(A)
    for ref, tenant in ((A, "many"), (B, "many"), (adapter("c"), "many"), (adapter("d"), "one")):
        loader.start(ref, tenant)
    gate.set()
    wait(loader, 4)
    loader.close()
    assert disk.opened.index("d") < disk.opened.index("c")
