import threading
import time
from collections.abc import Callable

from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.job.attempt import Workshop
from headmix_server.training.worker import Worker
from headmix_server.training.worker_metrics import WorkerMetrics


def test_a_worker_does_one_job_after_another_and_counts_them(
    queue: Callable[[], Job], shop: Callable[..., Workshop], jobs: Jobs
) -> None:
    queued = [queue() for _ in range(2)]
    metrics = WorkerMetrics()
    Worker(shop(), metrics, look_seconds=0.05).run(until_idle=0.0)
    assert {jobs.get("acme", job.id).state for job in queued} == {"publishing"}
    value = metrics.registry.get_sample_value
    assert value("headmix_worker_jobs_claimed_total") == 2
    assert value("headmix_worker_jobs_ended_total", {"state": "publishing"}) == 2
    assert value("headmix_worker_jobs_queued") == 0


def test_a_worker_that_is_busy_elsewhere_claims_nothing(
    queue: Callable[[], Job], shop: Callable[..., Workshop], jobs: Jobs
) -> None:
    job, tools = queue(), shop()
    tools.control.set_busy(True)
    Worker(tools, WorkerMetrics(), look_seconds=0.01).run(until_idle=0.05)
    assert jobs.get("acme", job.id).state == "queued"


def test_an_idle_worker_ends_when_it_is_stopped(shop: Callable[..., Workshop]) -> None:
    tools = shop()
    thread = threading.Thread(target=Worker(tools, WorkerMetrics(), look_seconds=0.05).run)
    thread.start()
    time.sleep(0)
    tools.control.stop()
    thread.join(30)
    assert not thread.is_alive()
