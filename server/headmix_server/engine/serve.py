"""The engine process's end of the socket: frames in, steps, frames out, until told to stop.

Owns the ZeroMQ socket and the waiting; what a request means is the engine's.
"""

import time

import msgspec
import zmq

from headmix_server.core.logging import get_logger
from headmix_server.core.messages import (
    Abort,
    Classify,
    Embed,
    EngineReady,
    EngineReport,
    ForgetAdapter,
    FromEngine,
    Generate,
    LoadAdapter,
    Outputs,
    Shutdown,
    decode_to_engine,
    encode,
)
from headmix_server.engine.loop import Engine
from headmix_server.engine.report import make_report

REPORT_SECONDS = 0.25
LOADING_POLL_SECONDS = 0.002


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
        self._next_report = 0.0
        self._log = get_logger("engine")

    def run(self) -> None:
        """Serve until `Shutdown`.

        Raises:
            EngineBrokenError: the runner fails step after step.
        """
        try:
            self._send(self._ready)
            while self._receive():
                if outputs := self._engine.step():
                    self._send(Outputs(items=outputs, report=self._due_report()))
                else:
                    self._report_if_due()
                if self._engine.idle:
                    self._engine.check_integrity()
        finally:
            self._engine.close()
            self._socket.close()
            self._context.term()

    def _receive(self) -> bool:
        """Take in every frame that is there, waiting while there is nothing else to do; false once told to stop."""
        while True:
            patience = self._patience_ms()
            while self._socket.poll(patience):
                if not self._handle(self._socket.recv()):
                    return False
                patience = 0
            if not self._engine.idle:
                return True
            self._report_if_due()

    def _patience_ms(self) -> int:
        if self._engine.idle:
            return int(max(0.0, self._next_report - time.monotonic()) * 1000) + 1
        return int(LOADING_POLL_SECONDS * 1000) if self._engine.stalled else 0

    def _handle(self, frame: bytes) -> bool:
        try:
            message = decode_to_engine(frame)
        except msgspec.MsgspecError as error:  # both ends are one program: this would be a fault of ours
            self._log.error("unreadable frame", error=str(error), size=len(frame))
            return True
        match message:
            case Generate() | Classify() | Embed():
                self._engine.submit(message)
            case Abort():
                self._engine.abort(message)
            case LoadAdapter():
                self._engine.load(message)
            case ForgetAdapter():
                self._engine.forget(message)
            case Shutdown():
                if outputs := self._engine.shut_down("the server is shutting down"):
                    self._send(Outputs(items=outputs))
                return False
        return True

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
