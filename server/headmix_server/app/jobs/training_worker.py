"""The worker beside the server: started when there is a job for it, restarted with backoff when it dies, told to stand
aside while clients wait for requests (`--train idle`), and ended with the server.

The process itself is `headmix_server.training.beside`. What it cannot finish before the server ends goes on after the
next start, or on another machine, from its last checkpoint.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.settings.settings import Settings
from headmix_server.core.settings.values import Train
from headmix_server.jobs.jobs import Jobs
from headmix_server.supervisor.engine_process import EngineProcess, ending
from headmix_server.supervisor.restart_policy import RestartPolicy
from headmix_server.training.control import BUSY, FREE

COMMAND = (sys.executable, "-m", "headmix_server.training.beside")
LOOK_SECONDS = 2.0
QUIET_SECONDS = 1.0
"""How long no request must have been open before training goes on: answers often lead to the next request."""

END_SECONDS = 20.0
"""How long the worker may take for a checkpoint when the server ends."""

_OK = 0
_WRONG_SETTING = 2


class TrainingWorker:
    """Runs one worker process after another, each only while there are jobs. Everything runs on one event loop.

    `base` is the fingerprint of the jobs it can do, `on_restart` is called when one died. `set_busy` may be called at
    any time. `train` is how, as the setting of that name. `stopping` is an event that stops it, as `stop` does.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        train: Train,
        *,
        base: str,
        on_restart: Callable[[], None] = lambda: None,
        command: Sequence[str] = COMMAND,
        start: Callable[[Sequence[str], str], Awaitable[EngineProcess]] = EngineProcess.start,
        look_seconds: float = LOOK_SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
        stopping: asyncio.Event | None = None,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._base = base
        self._on_restart = on_restart
        self._command = tuple(command)
        self._start = start
        self._look_seconds = look_seconds
        self._quiet_seconds = quiet_seconds
        self._train = train
        self._policy = RestartPolicy(settings.engine_restarts, settings.engine_restart_window)
        self._process: EngineProcess | None = None
        self._stopping = asyncio.Event() if stopping is None else stopping
        self._busy = False
        self._quiet: asyncio.TimerHandle | None = None
        self._log = get_logger("training")

    async def run(self) -> None:
        """Work until `stop`; the worker has ended when this returns. With `off` it only waits for that."""
        if self._train == "off":
            await self._stopping.wait()
        while not self._stopping.is_set():
            if not self._busy and await asyncio.to_thread(self._has_job):
                await self._live()
            await self._wait(self._look_seconds)

    def stop(self) -> None:
        """Have `run` end the worker and return."""
        self._stopping.set()

    def set_busy(self, busy: bool) -> None:
        """Stand aside from now on, or some time after the last request; does nothing unless that is the setting."""
        if self._train != "idle":
            return
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if busy:
            self._tell(busy=True)
        else:
            self._quiet = asyncio.get_running_loop().call_later(self._quiet_seconds, lambda: self._tell(busy=False))

    def _tell(self, *, busy: bool) -> None:
        if busy != self._busy:
            self._busy = busy
            if self._process is not None:
                self._process.write(BUSY if busy else FREE)

    async def _live(self) -> None:
        """Run one worker until it ends, by itself or because the server stops."""
        try:
            process = self._process = await self._start(self._command, self._settings.model_dump_json())
        except OSError as error:
            await self._pause_after(f"it could not be started: {error}")
            return
        self._log.info("worker started", pid=process.pid)
        if self._busy:
            process.write(BUSY)
        try:
            await self._outlast(process)
        finally:
            self._process = None
            await process.kill()
        status = await process.wait()
        if self._stopping.is_set() or status == _OK:
            self._log.info("worker ended", pid=process.pid)
        else:
            await self._pause_after(ending(status))

    async def _outlast(self, process: EngineProcess) -> None:
        exited = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        ends: set[asyncio.Task[Any]] = {exited, stopping}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                process.signal(signal.SIGTERM)
                await asyncio.wait({exited}, timeout=END_SECONDS)
        finally:
            for task in ends:
                task.cancel()

    async def _pause_after(self, death: str) -> None:
        """Wait before the next start; jobs are never given up, so a crash loop only makes the pauses longest."""
        self._on_restart()
        pause = self._policy.died(time.monotonic(), was_ready=False)
        seconds = self._settings.engine_restart_window if pause is None else pause
        self._log.error("the worker died, another will be started", reason=death, pause_seconds=round(seconds, 2))
        await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _has_job(self) -> bool:
        try:
            return self._jobs.waits(["fine_tuning"], self._base)
        except HeadmixServerError as error:
            self._log.warning("cannot look for jobs at the moment", reason=error.message)
            return False
