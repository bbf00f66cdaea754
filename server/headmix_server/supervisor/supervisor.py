"""Keeps one engine running: starts it, watches it, replaces it when it dies or hangs, ends it when stopped.

Owns the decision when an engine counts as dead. Everything it waits for stays true once it is (a future, or an event
that is never cleared), so that nothing is missed between two checks. How requests learn of a death is up to the engine
client, how a process is started and signalled to `engine_process`, and whether another start makes sense to
`restart_policy`.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from headmix_server.core.observability.logging import get_logger
from headmix_server.core.settings.settings import Settings
from headmix_server.engine_client.client import EngineClient
from headmix_server.engine_client.connection import EngineConnection
from headmix_server.supervisor.engine_process import CANNOT_START, EngineProcess, ending
from headmix_server.supervisor.restart_policy import RestartPolicy

TICK_SECONDS = 0.5
SHUTDOWN_SECONDS = 5.0
TERMINATE_SECONDS = 2.0
LAST_WORDS_SECONDS = 1.0
WORKER = (sys.executable, "-m", "headmix_server.worker")
"""The engine's program."""
STOPPED = "the server is shutting down"


class EngineLostError(Exception):
    """There is no engine and no point in starting another; the message gives the reason."""


class EngineRefusedError(EngineLostError):
    """The engine reports that it can never start with these settings."""


class Supervisor:
    """Runs one engine process after another on the endpoints of one folder.

    `on_start` is called with each engine's process id, `on_death` whenever one was lost and will be replaced. `command`
    is the engine's program; the endpoint is appended. `start` runs it with its settings; `clock` is the same as that of
    `engine.last_heard`.
    """

    def __init__(
        self,
        engine: EngineClient,
        settings: Settings,
        folder: Path,
        *,
        on_death: Callable[[], None],
        on_start: Callable[[int], None] = lambda _: None,
        command: Sequence[str] = WORKER,
        start: Callable[[Sequence[str], str], Awaitable[EngineProcess]] = EngineProcess.start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._folder = folder
        self._on_death = on_death
        self._on_start = on_start
        self._command = tuple(command)
        self._start = start
        self._clock = clock
        self._policy = RestartPolicy(settings.engine_restarts, settings.engine_restart_window)
        self._stopping = asyncio.Event()
        self._was_ready = False
        self._ever_ready = False
        self._log = get_logger("supervisor")

    async def run(self) -> None:
        """Keep an engine running until `stop`; however this returns, the engine has ended.

        Raises:
            EngineRefusedError: the first engine reports that it cannot start at all.
        EngineLostError: it died more often than the settings allow.
        """
        number = 0
        while not self._stopping.is_set():
            number += 1
            death = await self._live(f"ipc://{self._folder}/engine-{number}.sock")
            if death is None:
                return
            await self._pause_after(death)

    def stop(self) -> None:
        """Have `run` end the engine and return; requests that are still open fail."""
        self._stopping.set()

    async def _live(self, endpoint: str) -> str | None:
        """Run one engine from its start to its end; return why it died, or None if it was stopped."""
        self._was_ready = False
        death: str | None = None
        try:
            connection = self._engine.attach(endpoint)
            process = await self._start([*self._command, "--endpoint", endpoint], self._settings.model_dump_json())
            self._log.info("engine started", pid=process.pid)
            self._on_start(process.pid)
            try:
                death = await self._watch(process, connection)
                if death is None:
                    await self._end(process)
            finally:
                await process.kill()
        except OSError as error:
            death = f"the engine could not be started: {error}"
        finally:
            self._engine.detach(STOPPED if death is None else death)
        return death

    async def _watch(self, process: EngineProcess, connection: EngineConnection) -> str | None:
        """Wait for the engine's death and return the reason, or None after `stop` was called."""
        exited = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        ends: set[asyncio.Future[Any]] = {exited, stopping, connection.lost}
        try:
            late = await self._outlast(connection, ends)
            self._was_ready = connection.was_ready
            self._ever_ready |= connection.was_ready
            return late or await self._verdict(exited, connection)
        finally:
            exited.cancel()
            stopping.cancel()

    async def _outlast(self, connection: EngineConnection, ends: "set[asyncio.Future[Any]]") -> str | None:
        """Wait until one of `ends` is done, or the engine is late or silent; return a description of the latter."""
        patience = self._settings.engine_start_seconds
        await asyncio.wait({*ends, connection.ready}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not connection.ready.done() and not any(end.done() for end in ends):
            return f"the engine was not ready after {patience:g} s"
        while not any(end.done() for end in ends):
            before = self._clock()
            await asyncio.wait(ends, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._is_silent(self._clock() - before) and not any(end.done() for end in ends):
                return f"the engine hung: it was silent for {self._settings.engine_stall_seconds:g} s"
        return None

    async def _verdict(self, exited: "asyncio.Task[int]", connection: EngineConnection) -> str | None:
        """Return why the engine is dead; None if it is to be stopped, or has been already."""
        if self._stopping.is_set():
            return None
        return await self._death(exited.result(), connection) if exited.done() else connection.lost.result()

    async def _death(self, status: int, connection: EngineConnection) -> str:
        if status != CANNOT_START:
            return f"the engine ended with {ending(status)}"
        # Its last message may still be in transit.
        await asyncio.wait({connection.refused}, timeout=LAST_WORDS_SECONDS)
        reason = connection.refused.result() if connection.refused.done() else "see its last log line"
        # If an engine was ready before, the cause may be temporary (memory, an unavailable disk), so it is retried.
        if not self._ever_ready:
            raise EngineRefusedError(f"the engine cannot start with these settings: {reason}")
        return f"the engine could not start: {reason}"

    def _is_silent(self, tick: float) -> bool:
        """Return whether the engine counts as hung.

        A late tick means that this process itself was suspended and has frames to read: then it is too early to say.
        """
        if tick > 2 * TICK_SECONDS:
            return False
        return self._clock() - self._engine.last_heard > self._settings.engine_stall_seconds

    async def _end(self, process: EngineProcess) -> None:
        """End the engine: by message if it listens, otherwise with SIGTERM; the caller kills what remains."""
        self._engine.shutdown()
        if not (self._was_ready and await process.wait_for(SHUTDOWN_SECONDS)):
            process.signal(signal.SIGTERM)
            await process.wait_for(TERMINATE_SECONDS)

    async def _pause_after(self, death: str) -> None:
        if self._stopping.is_set():
            return
        pause = self._policy.died(self._clock(), was_ready=self._was_ready)
        if pause is None:
            limit, window = self._settings.engine_restarts, self._settings.engine_restart_window
            raise EngineLostError(
                f"{death}; that is more than {limit} engine deaths within {window:g} s or before it was ever ready"
            )
        self._on_death()
        self._log.error("engine lost, starting a new one", reason=death, pause_seconds=round(pause, 2))
        wait = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({wait}, timeout=pause)
        wait.cancel()
