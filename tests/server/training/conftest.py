"""A server's database and files with queued jobs, and workers whose trainer is a stand-in."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from harness.server.queued_job import FINGERPRINT, checked_request
from headmix_server.core.settings.settings import Settings
from headmix_server.database import ensure_tenant, writing
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.control import Control
from headmix_server.training.job.attempt import Workshop
from headmix_server.training.options import training_options
from tests.support.training import fake_trainer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(base="a-base", data_dir=tmp_path / "data", train_claim_seconds=2, train_threads=1)


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    return Jobs(engine)


@pytest.fixture
def files(engine: Engine, settings: Settings) -> Files:
    return open_files(settings, engine, settings.data_dir / "files")


@pytest.fixture
def queue(jobs: Jobs, files: Files, tmp_path: Path) -> Callable[[], Job]:
    """Return a function that queues a job, as the server does once it has checked the job's data."""

    def put() -> Job:
        data = tmp_path / "rows.jsonl"
        data.write_text('{"text": "a", "label": "b"}\n')
        request = checked_request(files, data)
        return jobs.create("acme", "fine_tuning", request.json(), base=FINGERPRINT)

    return put


@pytest.fixture
def shop(engine: Engine, jobs: Jobs, files: Files, settings: Settings) -> Callable[..., Workshop]:
    """Return a function that makes a worker's tools; `mode` is how its trainer behaves."""

    def make(mode: str = "ok", name: str = "w") -> Workshop:
        options = training_options(settings, beside_server=False)
        claims = Claims(engine, name, ["fine_tuning"], base=FINGERPRINT, seconds=settings.train_claim_seconds)
        return Workshop(
            jobs=jobs,
            claims=claims,
            files=files,
            base="a-base",
            root=settings.data_dir / "training",
            options=options,
            control=Control(),
            command=(sys.executable, str(Path(fake_trainer.__file__)), mode),
        )

    return make
