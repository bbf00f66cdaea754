"""Runs a worker: opens what it needs, works until it is told to end, and closes everything.

A worker takes no lease: it writes jobs, their files and checkpoints, all of them fenced by its claims, and never the
catalog. Nor does it change the schema.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from headmix_adapters.base import BaseError, ResolvedBase, resolve_base
from headmix_server.catalog.bytes.bucket import BucketUnusable
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import configure_logging, get_logger
from headmix_server.core.settings.names import called
from headmix_server.core.settings.settings import Settings
from headmix_server.database import DatabaseUnreachable, DatabaseUnusable, connect_database, require_schema
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.control import Control
from headmix_server.training.job.attempt import Workshop
from headmix_server.training.job.folder import remove_leftovers
from headmix_server.training.options import TrainingOptions, missing_packages, training_options
from headmix_server.training.process.trainer import TRAIN
from headmix_server.training.worker import Worker
from headmix_server.training.worker_metrics import WorkerMetrics

OK, FAILED, WRONG_SETTING = 0, 1, 2
DATABASE, FILES, FOLDER = "headmix.db", "files", "training"
"""What a worker uses of a data folder: its server's database and files, and a folder of its own."""


class WorkerStartError(Exception):
    """A worker cannot start; `status` is its exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRun:
    """How a worker is run: beside a server or alone; until it has had no job for `until_idle` seconds, or for good.

    `metrics` are the address and port of its page for Prometheus, `command` the trainer's program.
    """

    beside_server: bool = False
    until_idle: float | None = None
    metrics: tuple[str, int] | None = None
    command: tuple[str, ...] = TRAIN


def run_worker(settings: Settings, control: Control, how: WorkerRun) -> int:
    """Work on jobs of the settings' base until `control` says stop; return the exit status."""
    configure_logging(settings.log_level, "training", settings.log_format)
    log = get_logger("training")
    try:
        options = _options(settings, beside_server=how.beside_server)
        base = _base(settings)
        metrics = WorkerMetrics()
        if how.metrics is not None:
            _serve(metrics, *how.metrics)
        with _database(settings) as engine:
            name = f"{socket.gethostname()}-{os.getpid()}"
            shop = Workshop(
                jobs=Jobs(engine),
                claims=Claims(
                    engine,
                    name,
                    ["fine_tuning"],
                    base=base.shape.fingerprint,
                    seconds=options.claim_seconds,
                    most_attempts=options.attempts,
                ),
                files=_files(settings, engine),
                base=settings.base,
                root=settings.data_dir.absolute() / FOLDER,
                options=options,
                control=control,
                command=how.command,
                on_worked=metrics.worked,
            )
            if count := remove_leftovers(shop.root):
                log.info("removed the folders of workers that were killed", folders=count)
            log.info("worker ready", worker=name, base=base.name, threads=options.threads)
            Worker(shop, metrics).run(until_idle=how.until_idle)
    except WorkerStartError as error:
        print(f"headmix train-worker: {error}", file=sys.stderr)
        return error.status
    log.info("worker stopped")
    return OK


def _options(settings: Settings, *, beside_server: bool) -> TrainingOptions:
    if missing := missing_packages():
        raise WorkerStartError(missing)
    try:
        return training_options(settings, beside_server=beside_server)
    except ValueError as error:
        fault = f"{called('train_cores')} takes cores such as `0,2-3`, not {settings.train_cores!r}: {error}"
        raise WorkerStartError(fault, WRONG_SETTING) from error


def _base(settings: Settings) -> ResolvedBase:
    try:
        return resolve_base(settings.base)
    except BaseError as error:
        raise WorkerStartError(f"{called('base')}: {error}", WRONG_SETTING) from error


def _serve(metrics: WorkerMetrics, host: str, port: int) -> None:
    try:
        metrics.serve(host, port)
    except OSError as error:
        raise WorkerStartError(f"--metrics-port {port} cannot be used: {error.strerror}") from error


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    own = settings.data_dir.absolute() / DATABASE
    location = str(own) if settings.database is None else settings.database.get_secret_value()
    if settings.database is None and not own.exists():
        raise WorkerStartError(
            f"there is no server's database in {settings.data_dir}: {called('data_dir')} takes a server's data folder, "
            f"or {called('database')} the URL of its database",
            WRONG_SETTING,
        )
    try:
        engine = connect_database(location)
    except DatabaseUnusable as error:
        raise WorkerStartError(f"{called('database')} {error}", WRONG_SETTING) from error
    try:
        require_schema(engine)
        yield engine
    except (DatabaseUnreachable, DatabaseUnusable) as error:
        raise WorkerStartError(str(error)) from error
    finally:
        engine.dispose()


def _files(settings: Settings, engine: Engine) -> Files:
    try:
        return open_files(settings, engine, settings.data_dir.absolute() / FILES)
    except BucketUnusable as error:
        raise WorkerStartError(f"{called('artifacts')}: {error}", WRONG_SETTING) from error
    except HeadmixServerError as error:
        raise WorkerStartError(error.message) from error
