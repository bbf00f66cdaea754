"""The program from start to stop: what is opened in which order, what runs concurrently, and how it all ends.

A start opens in this order: data folder, port (served by the startup gate), database with its lease, base, engine
process, and while that starts, the preload folder and the application. A stop goes in this order: refuse new requests,
let open ones finish, end the engine, close the port, release the lease, unlock the data folder.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Literal

from rich.console import Console

from headmix_server.api.app import create_app, prepare_routes
from headmix_server.api.middleware.disconnect import end_tasks
from headmix_server.api.state import ApiState
from headmix_server.app.compose import Parts, open_parts
from headmix_server.app.errors import SettingError, StartError, StartStopped
from headmix_server.app.http.descriptors import room_for_connections
from headmix_server.app.http.listen import listen, url_of
from headmix_server.app.http.server import http_server
from headmix_server.app.jobs.batches import batch_runner
from headmix_server.app.jobs.job_keeper import job_keeper
from headmix_server.app.jobs.job_metrics import JobMetrics
from headmix_server.app.jobs.job_watch import JobWatch
from headmix_server.app.jobs.training_worker import TrainingWorker
from headmix_server.app.loop_monitor import LoopMonitor
from headmix_server.app.startup.check_settings import check_settings
from headmix_server.app.startup.startup_gate import StartupGate
from headmix_server.app.storage.claim import Claim, claim_database
from headmix_server.app.storage.data_folder import DataFolder, open_data_folder
from headmix_server.app.upkeep.background_tasks import BackgroundTasks
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.collector import keep_for_good
from headmix_server.core.observability.logging import configure_logging, get_logger
from headmix_server.core.settings.settings import Settings
from headmix_server.core.settings.values import Train
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.jobs import Jobs
from headmix_server.supervisor.supervisor import WORKER, EngineLostError, EngineRefusedError, Supervisor
from headmix_server.tenancy.usage.trained_tally import TrainedTally
from headmix_server.training.options import missing_packages

OK = 0
FAILED = 1
WRONG_SETTING = 2
BANNER_RETRY_SECONDS = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Each of them starts a drain; SIGHUP, from a closed terminal, only if it is not ignored, as under `nohup`."""


def run(settings: Settings) -> int:
    """Serve until stopped; return the exit status.

    0 after a stop, 1 if it could not start or continue, 2 if a setting has an invalid value.
    """
    configure_logging(settings.log_level, "api", settings.log_format)
    log = get_logger("app")
    try:
        check_settings(settings)
        with open_data_folder(settings.data_dir) as folder, listen(settings.host, settings.port) as listener:
            server = Server(settings, folder, listener)
            with asyncio.Runner(loop_factory=server.http.config.get_loop_factory()) as runner:
                runner.run(server.run())
    except (SettingError, EngineRefusedError) as error:
        print(f"headmix serve: {error}", file=sys.stderr)
        return WRONG_SETTING
    except (StartError, EngineLostError, LeaseLostError) as error:
        log.critical("headmix ends", reason=str(error))
        return FAILED
    log.info("headmix stopped")
    return OK


class LeaseLostError(Exception):
    """Another server has taken over the database; the message names it."""


class Server:
    """One run of the program on an open data folder and port."""

    def __init__(self, settings: Settings, folder: DataFolder, listener: socket.socket) -> None:
        self._settings = settings
        self._folder = folder
        self._listener = listener
        self._door = StartupGate()
        self.http = http_server(self._door, settings, room_for_connections(settings.max_connections))
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._lost = asyncio.Event()
        self._log = get_logger("app")

    async def run(self) -> None:
        """Serve until a signal asks to stop.

        Raises:
            StartError: a part cannot be opened.
            EngineLostError: the engine cannot be kept running.
            LeaseLostError: another server has taken over.
        """
        # Closed last: responses that are still being sent may need the database.
        async with contextlib.AsyncExitStack() as opened:
            opened.enter_context(self._signals())
            http = asyncio.create_task(self.http.serve(sockets=[self._listener]))
            # Without HTTP there is no reason to continue; an error, if there was one, is raised below.
            http.add_done_callback(lambda _: self._stop.set())
            loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
            url = url_of(self._listener, self._settings.host)
            opened.enter_context(self._told_address(url))
            self._log.info("listening", url=url, loop=loop)
            try:
                await self._serve(opened)
            finally:
                self.http.should_exit = True
                await http

    async def _serve(self, opened: contextlib.AsyncExitStack) -> None:
        try:
            claim = await self._claim()
            opened.push_async_callback(asyncio.to_thread, claim.close)
            parts = await asyncio.to_thread(open_parts, self._settings, self._folder, claim, self._stop.is_set)
        except StartStopped:
            return
        opened.push_async_callback(asyncio.to_thread, parts.close)
        opened.push_async_callback(parts.state.rates.aclose)
        opened.push_async_callback(parts.state.text_workers.close)
        opened.push_async_callback(parts.reports.close)
        if self._stop.is_set():
            return
        table, metrics = self.http.table, parts.state.metrics
        metrics.watch_connections(lambda: len(table), lambda: table.num_waiting)
        table.watch_full(metrics.connection_closed)
        app = create_app(parts.state)
        await asyncio.to_thread(prepare_routes, app)
        keep_for_good()
        engine = parts.state.engine
        supervisor = Supervisor(
            engine,
            self._settings,
            self._folder.run,
            on_death=parts.engine_died,
            on_start=parts.state.metrics.engine_started,
            command=(*WORKER, "--fingerprint", parts.state.base.shape.fingerprint),
        )
        engine_life = asyncio.create_task(supervisor.run())
        state = parts.state
        periodic = BackgroundTasks(state.keys, state.library, state.usage, state.audit, parts.file_upkeep)
        background = asyncio.create_task(periodic.run())
        jobs, train = Jobs(claim.database), self._trains()
        observer = JobMetrics(state.metrics, jobs, state.batches, TrainedTally(claim.database).newly_trained)
        training = self._training(state, jobs, train)
        training_life = asyncio.create_task(training.run())
        watch = JobWatch(
            jobs,
            Claims(claim.database, "server", ["fine_tuning"], most_attempts=self._settings.train_attempts),
            train,
            observe=observer.observe,
        )
        watching = asyncio.create_task(watch.run())
        monitor = LoopMonitor(state.metrics.loop_lag.observe, bound=self._settings.loop_lag_warn_seconds)
        monitoring = asyncio.create_task(monitor.run())
        keeper = job_keeper(state, claim.database, self._folder.checks)
        keeping = asyncio.create_task(keeper.run())
        try:
            await asyncio.to_thread(parts.preload)
            self._door.open(app)
            self.http.hand_over(app)
            runner = batch_runner(state, app, self._folder.root / "batches")
            await self._serve_until_stopped(parts, engine_life, asyncio.create_task(runner.run()))
            if claim.keeper.lost is not None:
                raise LeaseLostError(claim.keeper.lost)
        finally:
            if claim.keeper.lost is not None:
                supervisor.stop()  # immediately: open requests must not run alongside the successor's
            await parts.state.pinning.close()
            training.stop()
            await end_tasks(background, monitoring, watching, keeping)
            supervisor.stop()
            try:
                await engine_life
            finally:
                await training_life

    def _trains(self) -> Train:
        """Return how this server trains: as set, unless the packages for it are missing."""
        missing = None if self._settings.train == "off" else missing_packages()
        if missing is not None:
            self._log.warning("this server does not train", reason=missing)
            return "off"
        return self._settings.train

    def _training(self, state: ApiState, jobs: Jobs, train: Train) -> TrainingWorker:
        """Return what runs the training worker; it ends as soon as the server begins to stop."""
        worker = TrainingWorker(
            self._settings,
            jobs,
            train,
            base=state.base.shape.fingerprint,
            on_restart=state.metrics.training_worker_restarted,
            stopping=self._stop,
        )
        state.engine.watch_busy(worker.set_busy)
        return worker

    async def _claim(self) -> Claim:
        loop = asyncio.get_running_loop()

        def on_lost(_: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop, and so the server, has ended
                loop.call_soon_threadsafe(self._lost.set)

        return await asyncio.to_thread(
            claim_database,
            self._settings,
            self._folder,
            url_of(self._listener, self._settings.host),
            on_lost=on_lost,
            is_stopping=self._stop.is_set,
        )

    async def _serve_until_stopped(
        self, parts: Parts, engine_life: asyncio.Task[None], batches: asyncio.Task[None]
    ) -> None:
        banner = asyncio.create_task(self._greet(parts))
        stopped = asyncio.create_task(self._stop.wait())
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({engine_life, stopped, lost}, return_when=asyncio.FIRST_COMPLETED)
            await end_tasks(batches)  # before the drain: what they have answered is stored, the rest waits
            if stopped.done() and not lost.done():
                await self._drain(parts, lost)
        finally:
            batches.cancel()
            banner.cancel()
            stopped.cancel()
            lost.cancel()

    async def _greet(self, parts: Parts) -> None:
        await parts.state.engine.wait_ready()
        self._log.info("ready")
        url = url_of(self._listener, self._settings.host)
        while True:
            try:
                banner = await asyncio.to_thread(parts.banner, url)
            except HeadmixServerError as error:  # the catalog is temporarily unavailable; requests are served anyway
                self._log.warning("banner not printed yet", reason=error.message)
                await asyncio.sleep(BANNER_RETRY_SECONDS)
            else:
                with contextlib.suppress(OSError):  # a closed terminal, or a pipe that nobody reads
                    banner.print(Console())
                return

    async def _drain(self, parts: Parts, lost: asyncio.Task[Literal[True]]) -> None:
        """Refuse new requests and wait for the open ones.

        The wait ends after `drain_seconds`, at a second signal, or once the lease is `lost`.
        """
        engine, seconds = parts.state.engine, self._settings.drain_seconds
        engine.drain()
        self._log.info("draining", open_requests=engine.open_requests, seconds=seconds)
        idle = asyncio.create_task(engine.wait_idle())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({idle, hurry, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        hurry.cancel()
        if engine.open_requests:
            self._log.warning("drain cut short", open_requests=engine.open_requests)

    @contextlib.contextmanager
    def _told_address(self, url: str) -> Iterator[None]:
        """Store the server's URL next to its key while it runs; without it, the command line merely needs a key."""
        file = self._folder.address
        try:
            file.write_text(f"{url}\n", encoding="ascii")
        except OSError as error:
            self._log.warning("the server's address cannot be written", file=str(file), reason=error.strerror)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        hangup_is_off = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        numbers = [number for number in SIGNALS if not (number is signal.SIGHUP and hangup_is_off)]
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        """Stop at the first signal. The second ends the wait for open requests, the third that for their last bytes."""
        if self._hurry.is_set():
            self.http.force_exit = True
        elif self._stop.is_set():
            self._hurry.set()
        self._stop.set()
