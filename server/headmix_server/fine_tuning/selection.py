"""A tenant's jobs by page, all of them or those with given metadata."""

from collections.abc import Mapping
from dataclasses import dataclass

from headmix_server.core.errors import NotFound
from headmix_server.fine_tuning.request import KIND, read_request
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs are meant: those with these pairs of metadata; `None` selects those without any metadata."""

    metadata: Mapping[str, str] | None

    def selects(self, job: Job) -> bool:
        """Return whether the job is meant."""
        has = read_request(job.request).metadata
        if self.metadata is None:
            return not has
        return self.metadata.items() <= (has or {}).items()


def find_job(jobs: Jobs, tenant: str, job_id: str) -> Job:
    """Return a fine-tuning job.

    Raises:
        NotFound: the tenant has none of this id.
    """
    job = jobs.get(tenant, job_id)
    if job.kind != KIND:
        raise NotFound(f"There is no job {job_id!r}.", param="id")
    return job


def list_jobs(
    jobs: Jobs, tenant: str, selection: Selection, *, after: str | None, limit: int
) -> tuple[tuple[Job, ...], bool]:
    """Return a page, newest first, of those that follow the job `after`, and whether more follow.

    Raises:
        InvalidRequest: the tenant has no job `after`.
    """
    found: list[Job] = []
    while len(found) <= limit:
        page = jobs.list(tenant, KIND, after=after, limit=_PAGE)
        found += filter(selection.selects, page)
        if len(page) < _PAGE:
            break
        after = page[-1].id
    return tuple(found[:limit]), len(found) > limit
