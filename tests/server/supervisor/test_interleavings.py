"""Supervisor and engine client together, in virtual time, over every order in which an engine's life can go wrong.

What must hold whatever happens, however few iterations of the event loop lie between two events: a lost engine is soon
replaced, a healthy one is left alone, `stop` always ends the run, and no request waits for an answer forever.
"""

import asyncio
import itertools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.messages import EngineReady, EngineReport, FromEngine, Generate, Message, Shutdown
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.engine_client.client import EngineClient, EngineState
from headmix_server.engine_client.socket import EngineSocket
from headmix_server.supervisor.engine_process import CANNOT_START, EngineProcess
from headmix_server.supervisor.supervisor import EngineLostError, Supervisor
from tests.support.clocks.virtual_time import run_virtually

READY = EngineReady(pid=1, max_model_len=64, kv_blocks=4, block_size=16, adapter_slots=1)
REPORT = EngineReport(running=0, waiting=0, kv_usage=0.0, slots_free=1, slots_leased=0, slots_idle=0, slots_loading=0)
SOON = 40.0
"""The longest pause before a start, and then some."""
START_SECONDS, STALL_SECONDS = 100.0, 60.0
"""Longer than SOON: the loss of an engine must not be detected only by its silence."""

KILL_SECONDS = 0.01


class FakeSocket(EngineSocket):
    """Delivers available messages immediately, as ZeroMQ does: the reader may take two in one iteration of the loop."""

    def __init__(self, engine: "FakeEngineProcess") -> None:
        self.engine = engine
        self.closed = False
        self._frames: deque[FromEngine | Exception] = deque()
        self._arrived = asyncio.Event()

    def push(self, frame: FromEngine | Exception) -> None:
        if not self.closed:
            self._frames.append(frame)
            self._arrived.set()

    def send(self, message: Message) -> None:
        if isinstance(message, Shutdown):
            self.engine.told_to_stop()

    async def receive(self) -> FromEngine:
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        if isinstance(frame, Exception):
            raise frame
        return frame

    def close(self) -> None:
        self.closed = True


class FakeEngineProcess(EngineProcess):
    """A process that ends when told to, unless it is stubborn. `faults` says what the test did to it."""

    def __init__(self, pid: int, *, stubborn: bool) -> None:
        self.pid = pid
        self.socket = FakeSocket(self)
        self.faults: list[str] = []
        self._stubborn = stubborn
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def exit(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)

    def told_to_stop(self) -> None:
        if not self._stubborn:
            self.exit(0)

    async def wait(self) -> int:
        return await asyncio.shield(self._status)

    async def wait_for(self, seconds: float) -> bool:
        await asyncio.wait({self._status}, timeout=seconds)
        return self.ended

    @property
    def ended(self) -> bool:
        return self._status.done()

    def signal(self, number: signal.Signals) -> None:
        if number is signal.SIGTERM:
            self.told_to_stop()

    async def kill(self) -> None:
        self.exit(-9)
        await asyncio.sleep(KILL_SECONDS)


@dataclass
class World:
    """One supervisor with all the engines it started, the newest last."""

    stubborn: bool = False
    restarts: int = 1000
    healthy: bool = False
    """From now on engines announce themselves and report, as they should."""
    engines: list[FakeEngineProcess] = field(default_factory=list)
    requests: list["asyncio.Task[None]"] = field(default_factory=list)
    deaths: int = 0
    observer_fails: bool = False

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = self._new_engine()
        self.client = EngineClient(
            max_open=100, on_report=self._observe, open_socket=lambda _: self._next.socket, clock=loop.time
        )
        self.supervisor = Supervisor(
            self.client,
            Settings(
                engine_start_seconds=START_SECONDS, engine_stall_seconds=STALL_SECONDS, engine_restarts=self.restarts
            ),
            Path("run"),
            on_death=self._on_death,
            command=["engine"],
            start=self._start,
            clock=loop.time,
        )
        self.run = asyncio.create_task(self.supervisor.run())

    def _new_engine(self) -> FakeEngineProcess:
        return FakeEngineProcess(len(self.engines) + 1, stubborn=self.stubborn)

    async def _start(self, _: Sequence[str], __: str) -> EngineProcess:
        await asyncio.sleep(0)
        assert all(engine.ended for engine in self.engines), "two engines at once"
        engine, self._next = self._next, FakeEngineProcess(len(self.engines) + 2, stubborn=self.stubborn)
        self.engines.append(engine)
        return engine

    def _on_death(self) -> None:
        self.deaths += 1

    def _observe(self, _: EngineReport) -> None:
        if self.observer_fails:
            raise ConnectionError("a dependency is away")

    @property
    def alive(self) -> FakeEngineProcess | None:
        return next((engine for engine in self.engines if not engine.ended and not engine.socket.closed), None)

    def happens(self, event: str) -> None:
        """Make something happen to the live engine, if there is one, or to the supervisor."""
        if event == "stop":
            self.supervisor.stop()
        elif event == "request":
            self.requests.append(asyncio.create_task(self._ask(len(self.requests))))
        elif self.alive is not None:
            _EVENTS[event](self, self.alive)

    async def _ask(self, number: int) -> None:
        sampling = SamplingParams(max_tokens=4)
        message = Generate(request_id=f"r{number}", tenant="t", prompt=[1], adapter=None, sampling=sampling)
        with pytest.raises(HeadmixServerError):
            await anext(self.client.generate(message))

    async def passes(self, seconds: float) -> None:
        """Let time pass; healthy engines use it to report."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            if self.healthy and (engine := self.alive) is not None:
                engine.socket.push(REPORT if self.client.ready is not None else READY)
            await asyncio.sleep(min(5.0, end - loop.time()))


def _report(world: World, engine: FakeEngineProcess) -> None:
    world.observer_fails = False
    engine.socket.push(REPORT)


def _report_nobody_can_use(world: World, engine: FakeEngineProcess) -> None:
    world.observer_fails = True
    engine.socket.push(REPORT)


def _babble(_: World, engine: FakeEngineProcess) -> None:
    engine.faults.append("babble")
    engine.socket.push(msgspec.DecodeError("not a message"))


def _die(_: World, engine: FakeEngineProcess) -> None:
    engine.faults.append("death")
    engine.exit(1)


_EVENTS: dict[str, Callable[[World, FakeEngineProcess], None]] = {
    "ready": lambda _, engine: engine.socket.push(READY),
    "report": _report,
    "unusable report": _report_nobody_can_use,
    "babble": _babble,
    "death": _die,
}
TIMES = {"a moment": 0.1, "a tick": 0.6, "a stall": STALL_SECONDS + 1, "a late start": START_SECONDS + 1}
EVENTS = (*_EVENTS, "stop", "request", *TIMES)

Step = tuple[str, int]
"""An event, and how many iterations of the loop the others get after it."""


async def _live(steps: Iterable[Step], *, stubborn: bool) -> None:
    world = World(stubborn=stubborn)
    stopped = timed = False
    for event, turns in steps:
        if event in TIMES:
            timed |= TIMES[event] > STALL_SECONDS
            await world.passes(TIMES[event])
        else:
            world.happens(event)
        stopped |= event == "stop"
        for _ in range(turns):
            await asyncio.sleep(0)
    world.healthy = True
    await world.passes(SOON)
    if stopped:
        assert world.run.done()
    else:
        await _check_recovery(world, timed=timed)
    await _check_end(world)


async def _check_recovery(world: World, *, timed: bool) -> None:
    """Check that an engine serves, whatever happened to those before it, and is left alone."""
    assert not world.run.done()
    serving = world.alive
    assert serving is not None
    assert serving.faults == []
    assert world.client.state is EngineState.READY
    assert world.deaths == len(world.engines) - 1
    replaced = world.engines[:-1]
    assert timed or all(engine.faults for engine in replaced), "a healthy engine was replaced"
    await world.passes(STALL_SECONDS + 5)
    assert world.alive is serving


async def _check_end(world: World) -> None:
    world.supervisor.stop()
    await world.passes(10.0)
    assert world.run.done()
    world.run.result()
    assert all(engine.ended and engine.socket.closed for engine in world.engines)
    assert world.client.state is EngineState.DOWN
    assert all(request.done() for request in world.requests)
    for request in world.requests:
        request.result()


def _run(steps: Sequence[Step], *, stubborn: bool = False) -> None:
    with capture_logs():
        run_virtually(_live(steps, stubborn=stubborn))


@pytest.mark.parametrize("first", EVENTS)
def test_any_two_events_however_close_leave_no_server_down(first: str) -> None:
    for second, before, after in itertools.product(EVENTS, range(4), range(2)):
        _run([(first, before), (second, after)])


@pytest.mark.parametrize("turns", range(4))
def test_every_order_of_ready_report_babble_death_and_stop_leaves_no_server_down(turns: int) -> None:
    for order in itertools.permutations(["ready", "unusable report", "babble", "death", "stop"]):
        _run([("request", turns), *((event, turns) for event in order)])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5)), max_size=12), st.booleans())
def test_no_life_of_an_engine_leaves_a_server_down_or_a_request_waiting(steps: list[Step], stubborn: bool) -> None:
    _run(steps, stubborn=stubborn)


@pytest.mark.parametrize("ready", [False, True])
def test_a_program_that_cannot_start_ends_the_run_only_if_none_ever_was_ready(*, ready: bool) -> None:
    async def live() -> None:
        world = World()
        await world.passes(0.1)
        if ready:
            world.happens("ready")
        world.engines[0].exit(CANNOT_START)
        world.healthy = True
        await world.passes(SOON)
        if ready:
            assert world.client.state is EngineState.READY
            await _check_end(world)
        else:
            with pytest.raises(EngineLostError, match="cannot start"):
                world.run.result()

    with capture_logs():
        run_virtually(live())


def test_a_stop_while_a_dead_engine_is_cleared_away_is_no_crash_loop() -> None:
    async def live() -> None:
        world = World(restarts=0)
        await world.passes(0.1)
        world.happens("death")
        await world.passes(KILL_SECONDS / 2)
        await _check_end(world)
        assert world.deaths == 0

    with capture_logs():
        run_virtually(live())
