import pytest
from sqlalchemy import Engine

from headmix_server.app.jobs.job_watch import PATIENCE_SECONDS, JobWatch
from headmix_server.core.settings.values import Train
from headmix_server.database import ensure_tenant, writing
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from tests.support.clocks.fake_clock import FakeClock

SECONDS = 8.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def jobs(engine: Engine, clock: FakeClock) -> Jobs:
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    return Jobs(engine, clock=clock)


def claims(engine: Engine, clock: FakeClock) -> Claims:
    return Claims(engine, "w", ["fine_tuning"], seconds=SECONDS, clock=clock, steady=clock)


def watch(engine: Engine, jobs: Jobs, clock: FakeClock, train: Train = "off") -> JobWatch:
    return JobWatch(jobs, claims(engine, clock), train, clock=clock)


def messages(jobs: Jobs, job: Job) -> list[str]:
    return [event.message for event in jobs.events(job.id, limit=100)]


@pytest.mark.parametrize(
    ("train", "said"), [("off", "headmix train-worker"), ("idle", "while no client waits"), ("here", "no worker")]
)
def test_a_job_that_nobody_takes_says_why_once(
    engine: Engine, jobs: Jobs, clock: FakeClock, train: Train, said: str
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    looks = watch(engine, jobs, clock, train)
    looks.look()
    assert messages(jobs, job) == []
    clock.now += PATIENCE_SECONDS
    looks.look()
    looks.look()
    watch(engine, jobs, clock, train).look()  # a new server finds it told
    assert len(messages(jobs, job)) == 1
    assert said in messages(jobs, job)[0]


def test_a_job_behind_others_says_that_the_workers_are_busy(engine: Engine, jobs: Jobs, clock: FakeClock) -> None:
    jobs.create("acme", "fine_tuning", "{}")
    clock.now += 1
    waits = jobs.create("acme", "fine_tuning", "{}")
    claims(engine, clock).claim()
    clock.now += PATIENCE_SECONDS
    watch(engine, jobs, clock).look()
    assert "1 jobs are running" in messages(jobs, waits)[0]


def test_a_job_whose_worker_is_gone_goes_back_to_the_queue(engine: Engine, jobs: Jobs, clock: FakeClock) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims(engine, clock).claim()
    looks = watch(engine, jobs, clock)
    for _ in range(6):
        looks.look()
        clock.now += SECONDS / 4
    assert jobs.get("acme", job.id).state == "queued"


def test_each_look_observes_the_jobs(engine: Engine, jobs: Jobs, clock: FakeClock) -> None:
    seen: list[int] = []
    looks = JobWatch(jobs, claims(engine, clock), "off", observe=lambda: seen.append(1), clock=clock)
    looks.look()
    looks.look()
    assert seen == [1, 1]
