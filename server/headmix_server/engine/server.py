"""The engine process's end of the socket: receive frames, run steps, send frames, until it is shut down.

Owns the ZeroMQ socket and the waiting; the engine interprets requests. Frames are received while a step computes on its
own thread, so when the step finishes, new requests are already queued and their adapters being loaded.
"""

import time
from typing import assert_never

import msgspec
import zmq

from headmix_server.core.messages import (
    Abort,
    Classify,
    Embed,
    EngineReady,
    EngineRefused,
    EngineReport,
    ForgetAdapter,
    FromEngine,
    Generate,
    LoadAdapter,
    Outputs,
    Shutdown,
    UnpinAdapter,
    decode_to_engine,
    encode,
)
from headmix_server.core.observability.logging import get_logger
from headmix_server.engine.loop import Engine
from headmix_server.engine.report import make_report
from headmix_server.engine.step_thread import StepThread

LAST_WORDS_MS = 1000
REPORT_SECONDS = 0.25
LOADING_POLL_SECONDS = 0.002


def refuse(endpoint: str, reason: str) -> None:
    """Report to the API process why the engine does not start."""
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.setsockopt(zmq.LINGER, LAST_WORDS_MS)
    socket.connect(endpoint)
    socket.send(encode(EngineRefused(reason=reason)))
    socket.close()
    context.term()


class EngineServer:
    """Serves one engine over one PAIR socket that the API process has bound."""

    def __init__(self, engine: Engine, endpoint: str, ready: EngineReady) -> None:
        self._engine = engine
        self._ready = ready
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._step_thread = StepThread(engine.runner.run, self._context)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._step_thread.landed, zmq.POLLIN)
        self._next_report = 0.0
        self._log = get_logger("engine")

    def run(self) -> None:
        """Serve until `Shutdown`.

        Raises:
            EngineBrokenError: the runner fails step after step, or its thread has died.
        """
        try:
            self._send(self._ready)
            while self._receive() and self._step():
                self._tell()
                if self._engine.idle:
                    self._engine.check_integrity()
        finally:
            self._step_thread.close()
            self._engine.close()
            self._socket.close()
            self._context.term()

    def _receive(self) -> bool:
        """Receive all available frames, waiting while there is nothing else to do; returns False after `Shutdown`."""
        while True:
            patience = self._patience_ms()
            while self._socket.poll(patience):
                if not self._handle(self._socket.recv()):
                    return False
                patience = 0
            if not self._engine.idle:
                return True
            self._report_if_due()

    def _step(self) -> bool:
        """Schedule, run, commit, receiving frames during the run; returns False after `Shutdown`."""
        batch = self._engine.begin()
        if batch is not None:
            self._step_thread.start(batch)
            if not self._receive_in_flight():
                return False
            self._engine.finish(self._step_thread.take())
        return True

    def _receive_in_flight(self) -> bool:
        """Receive frames until the step has finished; False after `Shutdown`, when it may still be in flight."""
        while True:
            ready = dict(self._poller.poll(self._report_ms()))
            if self._step_thread.landed in ready:
                return True
            if self._socket in ready and not self._handle(self._socket.recv()):
                return False
            self._tell()

    def _report_ms(self) -> int:
        return int(max(0.0, self._next_report - time.monotonic()) * 1000) + 1

    def _patience_ms(self) -> int:
        if self._engine.idle:
            return self._report_ms()
        return int(LOADING_POLL_SECONDS * 1000) if self._engine.stalled else 0

    def _handle(self, frame: bytes) -> bool:
        try:
            message = decode_to_engine(frame)
        except msgspec.MsgspecError as error:  # both ends are the same program: this would be a bug
            self._log.error("unreadable frame", error=str(error), size=len(frame))
            return True
        match message:
            case Generate() | Classify() | Embed():
                self._engine.submit(message)
            case Abort():
                self._engine.abort(message)
            case LoadAdapter():
                self._engine.load(message)
            case UnpinAdapter():
                self._engine.unpin(message)
            case ForgetAdapter():
                self._engine.forget(message)
            case Shutdown():
                outputs, aborted = self._engine.shut_down("the server is shutting down"), self._engine.accounts.take()
                if outputs or aborted:
                    self._send(Outputs(items=outputs, aborted=aborted))
                return False
            case _:
                assert_never(message)
        return True

    def _tell(self) -> None:
        outputs, aborted = self._engine.take_outputs(), self._engine.accounts.take()
        if outputs or aborted:
            self._send(Outputs(items=outputs, aborted=aborted, report=self._due_report()))
        else:
            self._report_if_due()

    def _due_report(self) -> EngineReport | None:
        if time.monotonic() < self._next_report:
            return None
        self._next_report = time.monotonic() + REPORT_SECONDS
        return make_report(self._engine)

    def _report_if_due(self) -> None:
        if report := self._due_report():
            self._send(report)

    def _send(self, message: FromEngine) -> None:
        self._socket.send(encode(message))
