"""Workers that share a database and a bucket, each with a data folder of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from harness.server.s3_server import S3Server
from headmix_server.core.settings.settings import Settings
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.fine_tuning.result import read_trained
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.job.attempt import Attempt, Workshop
from tests.support.training.fake_trainer import BODY, STEPS


@pytest.fixture
def settings(tmp_path: Path, s3: S3Server) -> Settings:
    bucket = SecretStr(s3.new_bucket())
    return Settings(base="a-base", data_dir=tmp_path / "data", artifacts=bucket, train_claim_seconds=2, train_threads=1)


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_another_machine_goes_on_from_the_checkpoint_in_the_bucket(
    queue: Callable[[], Job],
    shop: Callable[..., Workshop],
    jobs: Jobs,
    files: Files,
    settings: Settings,
    engine: Engine,
    tmp_path: Path,
) -> None:
    job, first = queue(), shop("dies-once")
    claim = first.claims.claim()
    assert claim is not None
    assert Attempt(first, claim).run() == "queued"
    elsewhere = tmp_path / "elsewhere"
    second = replace(shop(), files=open_files(settings, engine, elsewhere / "files"), root=elsewhere / "training")
    claim = second.claims.claim()
    assert claim is not None
    assert Attempt(second, claim).run() == "publishing"
    assert "Training goes on from step 2." in [event.message for event in jobs.events(job.id, limit=100)]
    result = read_trained(str(jobs.get("acme", job.id).result))
    with files.open_bytes(result.artifact.digest) as artifact:
        assert artifact.read().decode() == BODY.format(list(range(1, STEPS + 1)))
