import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from headmix_server.core.settings.settings import Settings
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.tables import FileHoldRow
from headmix_server.fine_tuning.progress import read_progress
from headmix_server.fine_tuning.result import Trained, read_error, read_trained
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.tenancy.tables import UsageRow
from headmix_server.training.job.attempt import LOST, Attempt, Workshop
from tests.support.training.fake_trainer import BODY, STEPS

Shop = Callable[..., Workshop]
WHOLE = BODY.format(list(range(1, STEPS + 1)))


def attempt(shop: Workshop) -> str:
    claim = shop.claims.claim()
    assert claim is not None
    return Attempt(shop, claim).run()


def attempt_until(shop: Workshop, happened: Callable[[], bool], act: Callable[[], object]) -> str:
    """Attempt a job, and act once something has happened."""

    def watch() -> None:
        while not happened():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return attempt(shop)
    finally:
        thread.join()


def artifact(files: Files, job: Job) -> str:
    assert job.result is not None
    with files.open_bytes(read_trained(job.result).artifact.digest) as file:
        return file.read().decode()


def is_at_step_3(jobs: Jobs, job: Job) -> Callable[[], bool]:
    return lambda: any("Step 3/6" in event.message for event in jobs.events(job.id, limit=100))


def test_a_job_is_trained_told_and_handed_over(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, files: Files, settings: Settings, engine: Engine
) -> None:
    job = queue()
    assert attempt(shop()) == "publishing"
    found = jobs.get("acme", job.id)
    assert artifact(files, found) == WHOLE
    trained = read_trained(str(found.result))
    assert trained.trained_tokens == 60
    assert trained.scores == {
        "adapter": {"accuracy": 0.75},
        "base": {"accuracy": 0.25},
        "linear classifier": {"accuracy": 0.5},
    }
    progress = read_progress(found.progress)
    assert (progress.step, progress.steps, progress.valid_loss) == (6, 6, 0.3)
    events = jobs.events(job.id, limit=100)
    assert [json.loads(str(event.data))["step"] for event in events if event.type == "metrics"] == [1, 2, 3, 4, 5, 6, 6]
    messages = [event.message for event in events]
    assert messages.count("Loading the base, which is scored first as it is.") == 1
    assert "Training begins: 6 steps in 1 epochs, 3 examples." in messages
    with reading(engine) as session:
        holds = session.scalars(select(FileHoldRow.digest).where(FileHoldRow.holder == job.id)).all()
        usage = session.execute(select(UsageRow.adapter, UsageRow.trained_tokens)).all()
    assert trained.artifact.digest in holds
    assert [tuple(row) for row in usage] == [("tone", 60)]
    assert list((settings.data_dir / "training").iterdir()) == []


def test_a_killed_training_goes_on_from_its_last_checkpoint_and_ends_with_the_same_bytes(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, files: Files
) -> None:
    job = queue()
    tools = shop("dies-once")
    assert attempt(tools) == "queued"
    assert [point.step for point in jobs.checkpoints(job.id)] == [2]
    assert attempt(tools) == "publishing"
    assert artifact(files, jobs.get("acme", job.id)) == WHOLE
    messages = [event.message for event in jobs.events(job.id, limit=100)]
    assert any("signal SIGKILL" in message for message in messages)
    assert "Training goes on from step 2." in messages
    steps = [message for message in messages if message.startswith("Step") and "training" in message]
    assert steps == [f"Step {step}/6: training loss={1 / step:.4g}" for step in range(1, 7)]


def test_tokens_that_are_trained_again_after_a_crash_cost_nothing(
    queue: Callable[[], Job], shop: Shop, engine: Engine
) -> None:
    queue()
    tools = shop("dies-once")
    attempt(tools)
    attempt(tools)
    with reading(engine) as session:
        assert session.scalars(select(UsageRow.trained_tokens)).all() == [60]


def test_a_training_that_never_gets_ahead_fails_with_the_reason(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs
) -> None:
    job = queue()
    tools = shop("silent")
    assert [attempt(tools) for _ in range(3)] == ["queued", "queued", "failed"]
    error = read_error(str(jobs.get("acme", job.id).error))
    assert error.code == "attempts_exhausted"
    assert "exit status 1" in error.message


@pytest.mark.parametrize(
    ("mode", "code", "message"),
    [
        ("diverges", "diverged", "Training has diverged: the loss is not finite after step 3."),
        ("refuses", "invalid_training", "Training is not possible: line 3 has no text."),
    ],
)
def test_what_another_attempt_would_repeat_fails_at_once_and_publishes_nothing(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, mode: str, code: str, message: str
) -> None:
    job = queue()
    assert attempt(shop(mode)) == "failed"
    found = jobs.get("acme", job.id)
    error = read_error(str(found.error))
    assert (error.code, error.message, found.result) == (code, message, None)
    assert (jobs.events(job.id, limit=1, newest_first=True)[0].level, found.state) == ("error", "failed")
    assert {point.digest for point in jobs.checkpoints(job.id)} <= {None}


def test_a_pause_keeps_a_checkpoint_and_the_job_goes_on_from_there(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, files: Files
) -> None:
    job = queue()
    tools = shop("slow")
    state = attempt_until(tools, is_at_step_3(jobs, job), lambda: jobs.want("acme", job.id, "pause"))
    assert state == "paused"
    assert jobs.checkpoints(job.id)[0].step == 3
    assert tools.claims.claim() is None
    jobs.resume("acme", job.id)
    assert attempt(tools) == "publishing"
    assert artifact(files, jobs.get("acme", job.id)) == WHOLE


def test_a_cancelled_training_ends_without_a_result(queue: Callable[[], Job], shop: Shop, jobs: Jobs) -> None:
    job = queue()
    state = attempt_until(shop("slow"), is_at_step_3(jobs, job), lambda: jobs.want("acme", job.id, "cancel"))
    assert state == "cancelled"
    assert jobs.get("acme", job.id).result is None


def test_a_worker_that_is_stopped_gives_the_job_back_with_a_checkpoint(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, files: Files
) -> None:
    job = queue()
    tools = shop("slow")
    assert attempt_until(tools, is_at_step_3(jobs, job), tools.control.stop) == "queued"
    found = jobs.get("acme", job.id)
    assert (found.attempts, jobs.checkpoints(job.id)[0].step) == (0, 3)
    assert attempt(shop()) == "publishing"
    assert artifact(files, jobs.get("acme", job.id)) == WHOLE


def test_a_second_stop_ends_the_training_at_once(queue: Callable[[], Job], shop: Shop, jobs: Jobs) -> None:
    job = queue()
    tools = shop("slow")

    def stop_twice() -> None:
        tools.control.stop()
        tools.control.stop()

    assert attempt_until(tools, is_at_step_3(jobs, job), stop_twice) == "queued"


def test_a_training_stands_aside_while_its_server_is_busy(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headmix_server.training.job.attempt.STANDING_ASIDE_SECONDS", 0.0)
    job = queue()
    tools = shop("ok")
    tools.control.set_busy(True)

    def waits() -> bool:
        return any("Training waits" in event.message for event in jobs.events(job.id, limit=100))

    assert attempt_until(tools, waits, lambda: tools.control.set_busy(False)) == "publishing"


def test_a_worker_whose_job_another_has_taken_stops_and_changes_nothing(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, files: Files
) -> None:
    job = queue()
    cut_off, other = shop("slow", "cut-off"), shop("ok", "other")
    claim = cut_off.claims.claim()
    assert claim is not None

    def take_over() -> None:
        while other.claims.settle_abandoned() == ():
            time.sleep(0.1)

    # Another's clock runs out: this worker has claimed the job and not renewed it yet.
    take_over()
    taken = other.claims.claim()
    assert taken is not None
    assert Attempt(cut_off, claim).run() == LOST
    assert jobs.get("acme", job.id).owner == taken.owner
    assert Attempt(other, taken).run() == "publishing"
    assert artifact(files, jobs.get("acme", job.id)) == WHOLE


def test_missing_data_fails_the_job_with_the_reason(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, settings: Settings
) -> None:
    job = queue()
    for path in (settings.data_dir / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    assert attempt(shop()) == "failed"
    assert read_error(str(jobs.get("acme", job.id).error)).code == "file_missing"


def test_a_result_cancelled_just_before_it_is_handed_over_is_not_published(
    queue: Callable[[], Job], shop: Shop, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue()
    tools = shop()
    claim = tools.claims.claim()
    assert claim is not None

    def cancelled(_: Path, *__: object) -> Trained:
        jobs.want("acme", job.id, "cancel")
        return read_trained('{"artifact":{"digest":"sha256:00","size_bytes":1}}')

    monkeypatch.setattr("headmix_server.training.job.attempt.store_results", cancelled)
    assert Attempt(tools, claim).run() == "cancelled"
    assert jobs.get("acme", job.id).result is None
