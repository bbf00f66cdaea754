"""A worker that dies at any moment costs time and nothing else: the artifact is the one of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from harness.bases.tiny_model import make_tiny_llama
from harness.server.queued_job import FINGERPRINT, checked_request
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.database import ensure_tenant, open_database, writing
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.files.staging import Staging
from headmix_server.files.writer import BytesWriter
from headmix_server.fine_tuning.result import read_trained
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.job.attempt import Attempt, Workshop
from tests.support.training.fake_trainer import BODY, STEPS

pytestmark = pytest.mark.slow

SECONDS = 8.0


class Died(BaseException):
    """The worker is gone: none of its code handles this."""


def another(engine: Engine) -> Claims:
    """Return the claims of another worker, which has seen for long enough that the first one is silent."""
    now = [0.0]
    claims = Claims(engine, "other", ["fine_tuning"], base=FINGERPRINT, seconds=SECONDS, steady=lambda: now[0])
    for _ in range(6):
        claims.settle_abandoned()
        now[0] += SECONDS
    return claims


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "call",
    [(Files, "fetch"), (Claims, "add_events"), (Staging, "put"), (Claims, "add_checkpoint"), (Claims, "end")],
    ids=lambda call: call[1],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_worker_that_dies_at_one_of_its_writes_is_replaced(
    queue: Callable[[], Job],
    shop: Callable[..., Workshop],
    jobs: Jobs,
    files: Files,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    call: tuple[type, str],
) -> None:
    job, tools = queue(), shop()
    owner, name = call
    real = getattr(owner, name)

    def dies(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            real(*arguments, **named)
        patch.setattr(BytesWriter, "release", lambda *_: None)
        raise Died

    claim = tools.claims.claim()
    assert claim is not None
    attempt = Attempt(tools, claim)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Died):
            attempt.run()
    if jobs.get("acme", job.id).state == "running":
        second = replace(tools, claims=another(engine))
        claim = second.claims.claim()
        assert claim is not None
        assert Attempt(second, claim).run() == "publishing"
    result = read_trained(str(jobs.get("acme", job.id).result))
    with files.open_bytes(result.artifact.digest) as artifact:
        assert artifact.read().decode() == BODY.format(list(range(1, STEPS + 1)))


@dataclass
class Place:
    """A data folder with a database and files, a tiny base, and data to train on."""

    jobs: Jobs
    files: Files
    folder: Path
    base: Path
    data: Path

    def queue(self) -> Job:
        fingerprint = resolve_base(str(self.base)).shape.fingerprint
        request = checked_request(
            self.files, self.data, fingerprint=fingerprint, labels=("up", "down"), epochs=30, learning_rate=0.01
        )
        return self.jobs.create("acme", "fine_tuning", request.json(), base=fingerprint)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run `headmix train-worker` until it has had no job for a while; it is killed at the block's end."""
        options = {"base": self.base, "data-dir": self.folder, "train-claim-seconds": 2, "train-threads": 1}
        options |= {"train-checkpoint-seconds": 0.1}
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        process = subprocess.Popen([sys.executable, "-m", "headmix_server.cli", "train-worker", *flags])
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def digest(self, job: Job) -> str | None:
        found = self.jobs.get("acme", job.id)
        assert not found.has_ended, found.error
        return None if found.result is None else read_trained(found.result).artifact.digest

    def train(self, job: Job) -> str:
        with self.worker() as process:
            wait_until(lambda: process.poll() is not None or self.digest(job) is not None)
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0
        return str(self.digest(job))


def wait_until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("crashes")
    make_tiny_llama(root / "base")
    rng = random.Random(0)
    words = {"up": ["rise", "climb", "lift"], "down": ["fall", "sink", "drop"]}
    labels = [rng.choice(["up", "down"]) for _ in range(40)]
    rows = [{"text": "the fox " * rng.randrange(4) + rng.choice(words[label]), "label": label} for label in labels]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = root / "data"
    engine = open_database(folder / "headmix.db")
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    settings = Settings(data_dir=folder)
    yield Place(
        Jobs(engine), open_files(settings, engine, folder / "files"), folder, root / "base", root / "rows.jsonl"
    )
    engine.dispose()


@pytest.fixture(scope="module")
def whole(place: Place) -> str:
    """The digest of an undisturbed run."""
    return place.train(place.queue())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["worker", "trainer", "stopped"])
def test_a_real_training_that_is_killed_ends_with_the_digest_of_an_undisturbed_one(
    place: Place, whole: str, victim: str
) -> None:
    job = place.queue()
    with place.worker() as process:
        wait_until(lambda: any(point.step >= 5 for point in place.jobs.checkpoints(job.id)))
        if victim == "trainer":
            os.kill(_child(process.pid), signal.SIGKILL)
            wait_until(lambda: place.digest(job) is not None)  # the same worker tries again
        elif victim == "stopped":
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0
            assert place.jobs.get("acme", job.id).state == "queued"
        else:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert place.jobs.get("acme", job.id).state == "running"
    if victim != "trainer":
        place.train(job)
    assert place.digest(job) == whole
    messages = [event.message for event in place.jobs.events(job.id, limit=1000)]
    assert sum(message.startswith("Claimed by") for message in messages) == 2
    assert any(message.startswith("Training goes on from step") for message in messages)


def _child(pid: int) -> int:
    """Return the process that a worker has started: its only child is the trainer."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(children[0])
