"""The engine behind its socket: ready first, every answer sent, alive when idle, and stops when told."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from structlog.typing import EventDict

from harness.engine.engines import (
    GIVE_UP_SECONDS,
    Bench,
    adapter,
    classify,
    expected_generation,
    generate,
    is_terminal,
    load,
)
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    EngineReady,
    EngineReport,
    Failed,
    ForgetAdapter,
    FromEngine,
    Output,
    Outputs,
    Shutdown,
    ToEngine,
    TokenOutput,
    UnpinAdapter,
    decode_from_engine,
    encode,
)
from headmix_server.core.runner import Batch
from headmix_server.core.types import TokenCounts
from headmix_server.engine.failed_steps import EngineBrokenError
from headmix_server.engine.server import EngineServer
from tests.server.engine.conftest import MakeBench

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")
READY = EngineReady(pid=1, max_model_len=256, kv_blocks=64, block_size=4, adapter_slots=4)
RECEIVE_MS = 10_000


class Served:
    """An engine serving in a thread, and the socket's other end."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.error: Exception | None = None
        self.reports: list[EngineReport] = []
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, RECEIVE_MS)
        endpoint = f"ipc://{folder}/engine"
        self.socket.bind(endpoint)
        self.thread = threading.Thread(target=self._serve, args=(endpoint,))
        self.thread.start()

    def _serve(self, endpoint: str) -> None:
        try:
            EngineServer(self.bench.engine, endpoint, READY).run()
        except EngineBrokenError as error:
            self.error = error

    def send(self, *messages: ToEngine) -> None:
        for message in messages:
            self.socket.send(encode(message))

    def receive(self) -> FromEngine:
        return decode_from_engine(self.socket.recv())

    def receive_until(self, done: Callable[[], bool]) -> None:
        """Receive messages, collecting outputs by request, until a condition holds."""
        while not done():
            message = self.receive()
            if isinstance(message, EngineReport):
                self.reports.append(message)
            elif isinstance(message, Outputs):
                self.reports += [message.report] if message.report else []
                for output in message.items:
                    self.bench.outputs[output.request_id].append(output)
                for account in message.aborted:
                    self.bench.accounts[account.request_id].append(account.counts)

    def receive_ends(self, *request_ids: str) -> list[Output]:
        """Receive messages until each request has its terminal output."""
        outputs = self.bench.outputs
        self.receive_until(lambda: all(any(is_terminal(o) for o in outputs[name]) for name in request_ids))
        return [self.bench.terminal(name) for name in request_ids]

    def close(self) -> None:
        for gate in self.bench.disk.gates.values():
            gate.set()
        if self.thread.is_alive():
            self.send(Shutdown())
        self.thread.join(10)
        self.socket.close()
        self._context.term()
        assert not self.thread.is_alive()


@pytest.fixture
def serve(make_bench: MakeBench, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def start(bench: Bench | None = None) -> Served:
        served.append(Served(bench or make_bench(), tmp_path))
        assert served[-1].receive() == READY
        return served[-1]

    yield start
    for each in served:
        each.close()


def test_requests_of_every_kind_are_answered(serve: Callable[..., Served]) -> None:
    served = serve()
    messages = [generate(f"r{n}", [n, 1], A if n % 2 else None) for n in range(6)]
    served.send(*messages, classify("c", [1], C2), load("l", B))
    served.receive_ends(*(message.request_id for message in messages), "c", "l")
    served.bench.assert_answered(*messages)
    assert isinstance(served.bench.terminal("l"), AdapterLoaded)


def test_reports_come_while_the_engine_is_idle(serve: Callable[..., Served]) -> None:
    served = serve()
    served.receive_until(lambda: len(served.reports) == 2)
    assert all(report.running == report.waiting == 0 for report in served.reports)


def test_reports_tell_what_requests_did(serve: Callable[..., Served]) -> None:
    served = serve()
    served.send(generate("r", [1, 2, 3], A, max_tokens=3))
    served.receive_ends("r")
    served.receive_until(lambda: sum(len(report.steps) for report in served.reports) == 3)
    assert sum(report.misses.get("device", 0) for report in served.reports) == 1
    assert sum(len(report.loads) for report in served.reports) == 1


def test_an_aborted_request_says_nothing_more(serve: Callable[..., Served]) -> None:
    served = serve()
    served.bench.disk.gate(A)
    served.send(generate("cold", [1], A), generate("other", [2]), Abort(request_id="cold"), generate("last", [3]))
    served.receive_ends("other", "last")
    served.receive_until(lambda: any(report.waiting == 0 for report in served.reports))
    assert served.bench.outputs["cold"] == []


def test_every_abort_is_answered_with_an_account_though_the_engine_has_nothing_else_to_do(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    served.bench.disk.gate(A)
    served.send(generate("cold", [1], A))
    for request_id in ("cold", "unknown"):
        served.send(Abort(request_id=request_id))
        served.receive_until(lambda name=request_id: bool(served.bench.accounts[name]))  # type: ignore[misc]
        assert served.bench.accounts[request_id] == [TokenCounts()]


def test_a_slow_load_leaves_the_engine_answering(serve: Callable[..., Served]) -> None:
    served = serve()
    gate = served.bench.disk.gate(A)
    served.send(generate("cold", [1], A))
    for n in range(20):
        served.send(generate(f"r{n}", [n]))
        served.receive_ends(f"r{n}")
    assert served.bench.outputs["cold"] == []
    gate.set()
    served.receive_ends("cold")
    served.bench.assert_answered(generate("cold", [1], A))


def test_forgetting_is_done_and_reported_without_any_request(serve: Callable[..., Served]) -> None:
    served = serve()
    served.send(load("l", A))
    served.receive_ends("l")
    served.receive_until(lambda: any(r.resident for r in served.reports))
    told = len(served.reports)
    served.send(ForgetAdapter(digest=A.digest))
    served.receive_until(lambda: any(r.resident == [] and r.steps == [] for r in served.reports[told:]))


def test_pins_come_and_go_by_message(serve: Callable[..., Served]) -> None:
    served = serve()
    served.send(load("l", A, pin=True))
    served.receive_ends("l")
    assert served.bench.engine.tiers.slots.num_pinned == 1
    served.send(UnpinAdapter(digest=A.digest, tenant=A.tenant), generate("after", [1]))
    served.receive_ends("after")
    assert served.bench.engine.tiers.slots.num_pinned == 0


def test_shutdown_fails_what_is_open_and_ends_the_server(serve: Callable[..., Served]) -> None:
    served = serve()
    served.bench.disk.gate(A)
    served.send(generate("cold", [1], A), load("l", A), generate("refused", []), Shutdown())
    ends = served.receive_ends("cold", "l", "refused")
    codes = [end.code for end in ends if isinstance(end, Failed)]
    assert codes == ["engine_unavailable", "engine_unavailable", "invalid_request_error"]
    for gate in served.bench.disk.gates.values():
        gate.set()
    served.thread.join(10)
    assert (served.thread.is_alive(), served.error) == (False, None)


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"\xc1", b"not msgpack", msgspec.msgpack.encode({"type": "Dance"})),
        encode(Abort(request_id="not utf-8")).replace(b"not", b"n\xfft"),
    ],
)
def test_an_unreadable_frame_is_logged_and_survived(
    serve: Callable[..., Served], logs: list[EventDict], frame: bytes
) -> None:
    served = serve()
    served.socket.send(frame)
    message = generate("r", [1])
    served.send(message)
    served.receive_ends("r")
    served.bench.assert_answered(message)
    assert [(e["log_level"], e["size"]) for e in logs if e["event"] == "unreadable frame"] == [("error", len(frame))]


def test_a_broken_engine_ends_the_server_with_its_error(make_bench: MakeBench, serve: Callable[..., Served]) -> None:
    def fail(batch: object) -> None:
        raise RuntimeError("the device is lost")

    served = serve(make_bench(hold=fail))
    for n in range(2):
        served.send(generate(f"r{n}", [n]))
        (end,) = served.receive_ends(f"r{n}")
        assert isinstance(end, Failed)
    served.send(generate("r2", [2]))
    served.thread.join(10)
    assert "the device is lost" in str(served.error)


class Gate:
    """Blocks every step until it is opened, and signals when one has reached it."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def hold(self, batch: Batch) -> None:
        self.reached.set()
        if not self.opened.wait(GIVE_UP_SECONDS):
            raise TimeoutError("the test never opened the gate")


def test_messages_are_handled_while_a_step_computes(make_bench: MakeBench, serve: Callable[..., Served]) -> None:
    gate = Gate()
    opened = threading.Event()
    served = serve(make_bench(hold=gate.hold))
    served.bench.disk.on_open = opened.set
    first, cold, aborted = generate("first", [1]), generate("cold", [2], A), generate("aborted", [3])
    served.send(first)
    assert gate.reached.wait(GIVE_UP_SECONDS)
    served.send(cold, aborted, Abort(request_id="aborted"), Abort(request_id="none"), generate("refused", []))
    served.receive_ends("refused")
    assert opened.wait(GIVE_UP_SECONDS)
    served.receive_until(lambda: any(report.waiting == 1 and report.running == 1 for report in served.reports))
    assert served.bench.outputs["first"] == []
    gate.opened.set()
    served.receive_ends("first", "cold")
    served.bench.assert_answered(first, cold)
    assert served.bench.outputs["aborted"] == []


def test_shutdown_is_answered_while_a_step_computes(make_bench: MakeBench, serve: Callable[..., Served]) -> None:
    gate = Gate()
    served = serve(make_bench(hold=gate.hold))
    served.send(generate("r", [1]))
    assert gate.reached.wait(GIVE_UP_SECONDS)
    served.send(Shutdown())
    (end,) = served.receive_ends("r")
    assert isinstance(end, Failed)
    assert end.code == "engine_unavailable"
    gate.opened.set()
    served.thread.join(10)
    assert (served.thread.is_alive(), served.error) == (False, None)


def test_the_end_of_the_computing_thread_ends_the_server(make_bench: MakeBench, serve: Callable[..., Served]) -> None:
    def leave(batch: Batch) -> None:
        raise SystemExit("the thread is told to go")

    served = serve(make_bench(hold=leave))
    served.send(generate("r", [1]))
    served.thread.join(10)
    assert "the computing thread is gone: SystemExit" in str(served.error)


def test_steps_are_computed_on_one_thread_that_is_not_the_sockets(
    make_bench: MakeBench, serve: Callable[..., Served]
) -> None:
    threads: set[threading.Thread] = set()
    served = serve(make_bench(hold=lambda _: threads.add(threading.current_thread())))
    served.send(generate("r", [1]), generate("s", [2], A))
    served.receive_ends("r", "s")
    assert len(threads) == 1
    assert served.thread not in threads


def test_tokens_stream_one_step_at_a_time(serve: Callable[..., Served]) -> None:
    served = serve()
    message = generate("r", [1], max_tokens=5)
    served.send(message)
    served.receive_ends("r")
    tokens, _ = expected_generation(message, served.bench.token_range)
    assert [o.tokens for o in served.bench.outputs["r"] if isinstance(o, TokenOutput)] == [[t] for t in tokens]
