"""While the store, the database or the worker's machine fails, a job waits, and nothing of it is lost."""

import errno
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select

from headmix_server.core.errors import InsufficientStorage, StorageUnavailable
from headmix_server.core.settings.settings import Settings
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.files.staging import Staging
from headmix_server.files.sweep import Sweep
from headmix_server.files.tables import FileHoldRow
from headmix_server.files.writer import WRITER
from headmix_server.fine_tuning.result import read_trained
from headmix_server.jobs.claims import WAITING, Claims
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.job import attempt as attempts
from headmix_server.training.job import folder as job_folder
from headmix_server.training.job.attempt import Attempt, Workshop
from headmix_server.training.worker import Worker
from headmix_server.training.worker_metrics import WorkerMetrics
from tests.support.training.fake_trainer import BODY, STEPS

Shop = Callable[..., Workshop]
Queue = Callable[[], Job]
AWAY = StorageUnavailable("The bucket cannot be reached.")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/place")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pauses", "job.patience"):
        monkeypatch.setattr(f"headmix_server.training.{module}.FIRST_SECONDS", 0.01)
        monkeypatch.setattr(f"headmix_server.training.{module}.LONGEST_SECONDS", 0.02)
    monkeypatch.setattr(attempts, "RETRY_SECONDS", 0.0)


class Outage:
    """Makes a function fail for some calls, or until it `is_over`."""

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, *, calls: float = float("inf")
    ) -> None:
        self.is_over = False
        self.failures = 0
        real = getattr(owner, name)

        def fails(*arguments: Any, **named: Any) -> Any:
            if self.is_over or self.failures >= calls:
                return real(*arguments, **named)
            self.failures += 1
            raise error

        patch.setattr(owner, name, fails)


def messages(jobs: Jobs, job: Job) -> list[str]:
    return [event.message for event in jobs.events(job.id, limit=1000)]


def work(tools: Workshop) -> None:
    """Have a worker do all jobs there are."""
    Worker(tools, WorkerMetrics(), look_seconds=0.01).run(until_idle=0.0)


def work_until(happened: Callable[[], bool], tools: Workshop) -> None:
    """Have a worker work until something has happened."""

    def stop() -> None:
        while not happened():
            time.sleep(0.01)
        tools.control.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    Worker(tools, WorkerMetrics(), look_seconds=0.01).run()
    thread.join()


def attempt(shop: Workshop) -> str:
    claim = shop.claims.claim()
    assert claim is not None
    return Attempt(shop, claim).run()


def is_whole(jobs: Jobs, files: Files, job: Job) -> bool:
    result = read_trained(str(jobs.get("acme", job.id).result))
    with files.open_bytes(result.artifact.digest) as artifact:
        return artifact.read().decode() == BODY.format(list(range(1, STEPS + 1)))


@pytest.mark.parametrize(
    ("owner", "name", "error", "reason"),
    [
        (Files, "fetch", AWAY, "The bucket cannot be reached."),
        (Files, "fetch", InsufficientStorage("The disk is full."), "The disk is full."),
        (tempfile, "mkdtemp", FULL, "The worker's machine is in trouble (No space left on device)."),
        (subprocess, "Popen", FULL, "The worker's machine is in trouble (No space left on device)."),
        (Jobs, "events", StorageUnavailable("No database."), "No database."),
    ],
)
def test_jobs_wait_while_nobody_can_begin_them_and_are_trained_afterwards(
    queue: Queue,
    shop: Shop,
    jobs: Jobs,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    error: Exception,
    reason: str,
) -> None:
    queued = [queue() for _ in range(4)]
    outage = Outage(monkeypatch, owner, name, error)
    work_until(lambda: outage.failures > 3 * len(queued), shop())
    outage.is_over = True
    for job in queued:
        found = jobs.get("acme", job.id)
        assert (found.state, found.attempts) == ("queued", 0)
        told = [event.message for event in jobs.events(job.id, limit=1000)]
        assert told == [told[0], f"The job waits: {reason}"]
    work(shop())
    for job in queued:
        assert jobs.get("acme", job.id).state == "publishing"
        assert is_whole(jobs, files, job)
        assert messages(jobs, job).count("The job no longer waits: a worker goes on with it.") == 1


def test_a_job_that_finds_no_room_does_not_keep_a_worker_from_the_others(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, other = queue(), queue()
    real = job_folder.prepare

    def prepare(folder: Any, *arguments: Any) -> Any:
        if jobs.get("acme", large.id).state == "running":
            raise InsufficientStorage("The disk is full.")
        return real(folder, *arguments)

    tools = shop()
    monkeypatch.setattr(attempts, "prepare", prepare)
    work_until(lambda: jobs.get("acme", other.id).state == "publishing", tools)
    assert jobs.get("acme", large.id).state == "queued"


def test_a_training_goes_on_while_its_checkpoints_cannot_be_packed(
    queue: Queue, shop: Shop, jobs: Jobs, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    outage = Outage(monkeypatch, attempts, "pack", FULL)
    assert attempt(shop()) == "publishing"
    assert outage.failures
    assert jobs.checkpoints(job.id) == ()
    assert is_whole(jobs, files, job)


def test_a_checkpoint_that_could_not_be_recorded_is_recorded_by_the_next_try(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tools = queue(), shop("slow")
    outage = Outage(monkeypatch, Claims, "add_checkpoint", StorageUnavailable("No database."), calls=1)
    thread = threading.Thread(target=attempt, args=[tools])
    thread.start()
    while not jobs.checkpoints(job.id):
        time.sleep(0.01)
    tools.control.stop()
    thread.join()
    assert outage.failures == 1
    assert jobs.checkpoints(job.id)[-1].step == 2


@pytest.mark.parametrize("error", [AWAY, FULL])
def test_a_result_waits_for_the_store_and_nothing_is_trained_twice(
    queue: Queue, shop: Shop, jobs: Jobs, files: Files, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = queue()
    monkeypatch.setattr(attempts, "pack", lambda *_: False)
    outage = Outage(monkeypatch, Staging, "put", error, calls=5)
    assert attempt(shop()) == "publishing"
    assert outage.failures == 5
    assert is_whole(jobs, files, job)
    told = messages(jobs, job)
    assert sum(message.startswith("Training is over, and its result waits: ") for message in told) == 1
    assert sum(message.startswith("Claimed by") for message in told) == 1
    assert not any("/secret" in message for message in told)


def test_the_end_of_a_job_waits_for_the_database(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    outage = Outage(monkeypatch, Claims, "end", StorageUnavailable("No database."), calls=3)
    assert attempt(shop()) == "publishing"
    assert outage.failures == 3
    assert sum(message.startswith("Trained in 6 steps") for message in messages(jobs, job)) == 1


def test_the_last_steps_of_a_job_are_recorded_with_its_end(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    Outage(monkeypatch, Claims, "add_events", StorageUnavailable("No database."))
    assert attempt(shop()) == "publishing"
    assert sum("training loss" in message for message in messages(jobs, job)) == STEPS


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("pause", "paused"), (None, "queued")])
def test_a_wish_or_a_stop_ends_the_waiting_for_the_store(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, wish: Any, state: str
) -> None:
    job, tools = queue(), shop()
    monkeypatch.setattr(attempts, "pack", lambda *_: False)
    outage = Outage(monkeypatch, Staging, "put", AWAY)

    def act() -> None:
        while not outage.failures:
            time.sleep(0.01)
        if wish is None:
            tools.control.stop()
        else:
            jobs.want("acme", job.id, wish)

    thread = threading.Thread(target=act)
    thread.start()
    assert attempt(tools) == state
    thread.join()
    assert jobs.get("acme", job.id).attempts == 0


def test_a_training_that_leaves_no_result_counts_as_an_attempt(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    Outage(monkeypatch, Staging, "put", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/secret"))
    monkeypatch.setattr(attempts, "pack", lambda *_: False)
    assert attempt(shop()) == "queued"
    assert jobs.get("acme", job.id).attempts == 1
    assert "/secret" not in messages(jobs, job)[-1]


def test_a_training_that_fills_the_disk_waits_and_does_not_fail(queue: Queue, shop: Shop, jobs: Jobs) -> None:
    job, tools = queue(), shop("full")
    assert [attempt(tools) for _ in range(5)] == ["queued"] * 5
    assert jobs.get("acme", job.id).attempts == 0
    assert messages(jobs, job)[-1] == "The job waits: The disk of the worker's machine is full."


def test_what_the_trainer_refuses_on_a_full_disk_is_no_fault_of_the_data(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    monkeypatch.setattr(attempts, "is_full", lambda _: True)
    assert attempt(shop("refuses")) == "queued"
    assert jobs.events(job.id, limit=1, newest_first=True)[0].data == WAITING


def test_a_claimed_job_is_worked_on_though_the_queue_cannot_be_counted(
    queue: Queue, shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    outage = Outage(monkeypatch, Jobs, "counts", StorageUnavailable("No database."))
    work(shop())
    assert outage.failures
    assert jobs.get("acme", job.id).state == "publishing"


def test_of_a_jobs_checkpoints_only_the_newest_stays_in_the_store(
    queue: Queue, shop: Shop, jobs: Jobs, settings: Settings, engine: Engine
) -> None:
    job = queue()
    assert attempt(shop("dies-once")) == "queued"
    server = open_files(settings, engine, settings.data_dir / "files", removes_bytes=True)
    assert attempt(shop()) == "publishing"
    Sweep(engine, server).expire()
    points = jobs.checkpoints(job.id)
    assert len(points) > 1
    result = read_trained(str(jobs.get("acme", job.id).result))
    kept = {point.digest for point in points if point.digest is not None}
    assert len(kept) == 1
    with reading(engine) as session:
        data = set(session.scalars(select(FileHoldRow.digest).where(FileHoldRow.holder == WRITER)))
    assert len(data) == 1  # the job's data, which no file of this test's refers to
    results = {result.artifact.digest, *(file.digest for file in result.files)}
    assert {digest for digest, _ in server.bytes.digests()} == kept | data | results
    jobs.move(job.id, before=["publishing"], after="succeeded")
    Sweep(engine, server).expire()
    assert {digest for digest, _ in server.bytes.digests()} == data
