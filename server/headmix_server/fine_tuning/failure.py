"""How the server ends a job that cannot go on."""

from headmix_server.fine_tuning.result import JobError
from headmix_server.jobs.job import JobHead, NewEvent
from headmix_server.jobs.jobs import Jobs


def fail_job(jobs: Jobs, job: JobHead, error: JobError) -> None:
    """End a job with an error, unless it has moved on since it was read."""
    event = NewEvent(error.message, level="error")
    jobs.move(job.id, before=(job.state,), after="failed", event=event, error=error.json())
