import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from headmix_server.app.jobs import training_worker
from headmix_server.app.jobs.training_worker import TrainingWorker
from headmix_server.core.settings.settings import Settings
from headmix_server.core.settings.values import Train
from headmix_server.database import ensure_tenant, writing
from headmix_server.jobs.jobs import Jobs
from tests.support.clocks.waiting import until
from tests.support.training import stand_in_worker

BASE = "sha256:0"


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    return Jobs(engine)


class Living:
    """A running `TrainingWorker`; `said` is what its stand-ins have written."""

    def __init__(self, worker: TrainingWorker, file: Path, restarts: list[int]) -> None:
        self.worker = worker
        self._file = file
        self.restarts = restarts

    @property
    def said(self) -> list[str]:
        return self._file.read_text().split() if self._file.exists() else []

    async def wait_for(self, happened: Callable[[], bool]) -> None:
        await until(happened)


@asynccontextmanager
async def living(jobs: Jobs, tmp_path: Path, behaviour: str, *, train: Train, **settings: Any) -> AsyncIterator[Living]:
    file, restarts = tmp_path / "said", [0]

    def restarted() -> None:
        restarts[0] += 1

    worker = TrainingWorker(
        Settings(data_dir=tmp_path, **settings),
        jobs,
        train,
        base=BASE,
        on_restart=restarted,
        command=(sys.executable, str(Path(stand_in_worker.__file__)), str(file), behaviour),
        look_seconds=0.02,
        quiet_seconds=0.05,
    )
    life = asyncio.create_task(worker.run())
    try:
        yield Living(worker, file, restarts)
    finally:
        worker.stop()
        await life


async def test_a_worker_is_started_for_a_job_of_the_servers_base_and_stopped_with_the_server(
    jobs: Jobs, tmp_path: Path
) -> None:
    jobs.create("acme", "fine_tuning", "{}", base="sha256:another")
    async with living(jobs, tmp_path, "works", train="here") as life:
        await asyncio.sleep(0)
        assert life.said == []
        jobs.create("acme", "fine_tuning", "{}", base=BASE)
        await life.wait_for(lambda: life.said == ["started"])
    assert life.said == ["started", "stopped"]


async def test_a_worker_that_is_done_is_started_again_when_there_is_another_job(jobs: Jobs, tmp_path: Path) -> None:
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    async with living(jobs, tmp_path, "done", train="here") as life:
        await life.wait_for(lambda: len(life.said) >= 2)
        assert life.restarts == [0]


async def test_a_worker_that_dies_is_replaced_and_counted(jobs: Jobs, tmp_path: Path) -> None:
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    async with living(jobs, tmp_path, "dies", train="here") as life:
        await life.wait_for(lambda: len(life.said) >= 2)
        assert life.restarts[0] >= 1


async def test_a_crash_loop_is_only_slowed_down(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix_server.supervisor.restart_policy.FIRST_PAUSE_SECONDS", 0.001)
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    loop = {"engine_restarts": 1, "engine_restart_window": 0.05}
    async with living(jobs, tmp_path, "dies", train="here", **loop) as life:
        await life.wait_for(lambda: life.restarts[0] >= 4)


async def test_an_idle_worker_is_told_when_requests_are_open_and_some_time_after_the_last(
    jobs: Jobs, tmp_path: Path
) -> None:
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    async with living(jobs, tmp_path, "works", train="idle") as life:
        await life.wait_for(lambda: life.said == ["started"])
        for busy in (True, False, True, False):
            life.worker.set_busy(busy)
        await life.wait_for(lambda: life.said == ["started", "busy", "free"])


async def test_no_worker_is_started_while_requests_are_open(jobs: Jobs, tmp_path: Path) -> None:
    async with living(jobs, tmp_path, "works", train="idle") as life:
        life.worker.set_busy(True)
        jobs.create("acme", "fine_tuning", "{}", base=BASE)
        await asyncio.sleep(0.1)  # several looks; a start would show in the file
        assert life.said == []
        life.worker.set_busy(False)
        await life.wait_for(lambda: life.said == ["started"])


@pytest.mark.parametrize(("train", "started"), [("off", []), ("here", ["started"])])
async def test_only_idle_minds_requests_and_off_trains_nothing(
    jobs: Jobs, tmp_path: Path, train: Train, started: list[str]
) -> None:
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    async with living(jobs, tmp_path, "works", train=train) as life:
        if started:
            await life.wait_for(lambda: life.said == started)
        life.worker.set_busy(True)
    assert life.said == [*started, *(["stopped"] if started else [])]


async def test_a_worker_that_does_not_stop_is_killed(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_worker, "END_SECONDS", 0.05)
    jobs.create("acme", "fine_tuning", "{}", base=BASE)
    async with living(jobs, tmp_path, "stubborn", train="here") as life:
        await life.wait_for(lambda: life.said == ["started"])
    assert life.said == ["started"]
