import pytest
from sqlalchemy import Engine, update

from headmix_server.app.jobs.job_metrics import JobMetrics
from headmix_server.batches.batches import Batches
from headmix_server.batches.request import Counts, Progress, written
from headmix_server.core.observability.metrics import Metrics
from headmix_server.database import ensure_tenant, writing
from headmix_server.jobs.jobs import Jobs
from headmix_server.jobs.tables import JobRow
from headmix_server.tenancy.usage.trained import charge_trained
from headmix_server.tenancy.usage.trained_tally import TrainedTally

NOW = 1_790_000_000.0


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    return Jobs(engine)


class Page:
    """The metrics of jobs, as Prometheus reads them after each observation."""

    def __init__(self, engine: Engine, jobs: Jobs) -> None:
        metrics = Metrics(series=9, version="0", base="b")
        tally = TrainedTally(engine, clock=lambda: NOW)
        self._metrics = metrics
        self._observer = JobMetrics(metrics, jobs, Batches(engine, jobs), tally.newly_trained)

    def read(self) -> list[str]:
        self._observer.observe()
        names = ("headmix_jobs{", "headmix_batch_lines_un", "headmix_trained")
        return [line for line in self._metrics.render(tenants=False)[0].decode().splitlines() if line.startswith(names)]


def batch(engine: Engine, jobs: Jobs, state: str, progress: Progress) -> None:
    job = jobs.create("acme", "batch", "{}")
    with writing(engine) as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(state=state, progress=written(progress)))


def test_lines_without_an_answer_are_counted_by_the_state_of_their_batch(engine: Engine, jobs: Jobs) -> None:
    page = Page(engine, jobs)
    none = ['headmix_batch_lines_unanswered{state="queued"} 0.0', 'headmix_batch_lines_unanswered{state="running"} 0.0']
    assert page.read()[:2] == none  # an alert finds its series before the first batch
    for answered in (0, 4):
        batch(engine, jobs, "running", Progress(total=10, counts=Counts(completed=answered, failed=answered // 2)))
    batch(engine, jobs, "queued", Progress())
    batch(engine, jobs, "queued", Progress(total=7, counts=Counts(completed=2)))
    batch(engine, jobs, "running", Progress(total=50, ending="cancelled"))
    batch(engine, jobs, "expired", Progress(total=90))
    assert page.read()[:4] == [
        'headmix_jobs{kind="batch",state="queued"} 2.0',
        'headmix_jobs{kind="batch",state="running"} 3.0',
        'headmix_batch_lines_unanswered{state="queued"} 5.0',
        'headmix_batch_lines_unanswered{state="running"} 14.0',
    ]


def test_what_workers_train_is_counted_from_the_servers_start(engine: Engine, jobs: Jobs) -> None:
    def train(tenant: str, tokens: int, now: float) -> None:
        with writing(engine) as session:
            charge_trained(session, tenant, "tone", tokens, now=now)

    train("acme", 1000, NOW)
    page = Page(engine, jobs)
    assert page.read()[-1] == "headmix_trained_tokens_total 0.0"
    train("acme", 5, NOW)
    train("someone", 6, NOW - 24 * 3600)  # a worker whose clock is before midnight
    assert page.read()[-1] == "headmix_trained_tokens_total 11.0"
    train("someone", 7, NOW + 24 * 3600)
    assert page.read()[-1] == page.read()[-1] == "headmix_trained_tokens_total 18.0"
