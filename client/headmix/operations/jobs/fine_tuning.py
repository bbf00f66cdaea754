"""Owns the requests of fine-tuning jobs."""

from collections.abc import Mapping

from headmix.http.request import Request, parser_of, segment
from headmix.page import Page
from headmix.types.jobs.fine_tuning import (
    FineTuningEvent,
    FineTuningEventList,
    FineTuningJob,
    FineTuningJobList,
    Hyperparameters,
    JobOptions,
)
from headmix.types.result import ResponseMeta

JOBS = "/v1/fine_tuning/jobs"
_PAGE = 100


def create(
    model: str,
    training_file: str,
    *,
    validation_file: str | None = None,
    suffix: str | None = None,
    seed: int | None = None,
    hyperparameters: Hyperparameters | None = None,
    metadata: Mapping[str, str] | None = None,
    options: JobOptions | None = None,
) -> Request[FineTuningJob]:
    """Train an adapter on the base `model` from an uploaded file; `suffix` names it.

    Raises:
        BadRequestError: a file or value that cannot be used; faults in the data end the job instead.
        RateLimitError: the tenant has the most jobs or has used up the day's tokens.
    """
    given: Mapping[str, object] = {
        "validation_file": validation_file,
        "suffix": suffix,
        "seed": seed,
        "method": None
        if hyperparameters is None
        else {"type": "supervised", "supervised": {"hyperparameters": dict(hyperparameters)}},
        "metadata": None if metadata is None else dict(metadata),
        "headmix": None if options is None else dict(options),
    }
    body = {"model": model, "training_file": training_file}
    json = body | {name: value for name, value in given.items() if value is not None}
    return Request("POST", JOBS, parser_of(FineTuningJob), json=json, repeatable=False)


def list_jobs() -> Request[Page[FineTuningJob]]:
    """List the tenant's jobs, newest first."""
    return Request("GET", JOBS, _jobs, query={"limit": _PAGE})


def get(job_id: str) -> Request[FineTuningJob]:
    """Get a job.

    Raises:
        NotFoundError: no such job.
    """
    return Request("GET", f"{JOBS}/{segment(job_id)}", parser_of(FineTuningJob))


def cancel(job_id: str) -> Request[FineTuningJob]:
    """Cancel a job; nothing is published.

    Raises:
        NotFoundError: no such job.
        BadRequestError: it has ended otherwise.
    """
    return _change(job_id, "cancel")


def pause(job_id: str) -> Request[FineTuningJob]:
    """Pause a job; a running one stops at its next step with a checkpoint.

    Raises:
        NotFoundError: no such job.
        BadRequestError: its status rules that out.
    """
    return _change(job_id, "pause")


def resume(job_id: str) -> Request[FineTuningJob]:
    """Let a paused job continue.

    Raises:
        NotFoundError: no such job.
        BadRequestError: it has ended.
    """
    return _change(job_id, "resume")


def events(job_id: str) -> Request[Page[FineTuningEvent]]:
    """List what has happened in a job, newest first.

    Raises:
        NotFoundError: no such job.
    """
    return Request("GET", f"{JOBS}/{segment(job_id)}/events", _events, query={"limit": _PAGE})


def latest_events(job_id: str) -> Request[tuple[FineTuningEvent, ...]]:
    """List the last hundred events of a job, newest first.

    Raises:
        NotFoundError: no such job.
    """
    return Request("GET", f"{JOBS}/{segment(job_id)}/events", _latest, query={"limit": _PAGE})


def _change(job_id: str, what: str) -> Request[FineTuningJob]:
    return Request("POST", f"{JOBS}/{segment(job_id)}/{what}", parser_of(FineTuningJob))


def _jobs(body: bytes, meta: ResponseMeta) -> Page[FineTuningJob]:
    found = parser_of(FineTuningJobList)(body, meta)
    return Page(found.data, found.data[-1].id if found.has_more and found.data else None)


def _events(body: bytes, meta: ResponseMeta) -> Page[FineTuningEvent]:
    found = parser_of(FineTuningEventList)(body, meta)
    return Page(found.data, found.data[-1].id if found.has_more and found.data else None)


def _latest(body: bytes, meta: ResponseMeta) -> tuple[FineTuningEvent, ...]:
    return parser_of(FineTuningEventList)(body, meta).data
