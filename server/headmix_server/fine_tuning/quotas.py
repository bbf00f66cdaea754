"""A tenant's limits on fine-tuning, checked within the transaction that uses them: jobs at once, tokens per day.

And whether the tenant may have the adapter that a job makes: known before it trains, asked again at its publication.
"""

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.queries import adapter
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import RateLimitExceeded
from headmix_server.fine_tuning.progress import read_progress
from headmix_server.fine_tuning.request import KIND, FineTuning, read_request
from headmix_server.fine_tuning.result import StoredBytes
from headmix_server.jobs.job import ENDED
from headmix_server.jobs.tables import JobRow
from headmix_server.tenancy.usage.trained import trained_today

_AT_ONCE = 20
"""How many jobs' requests are in memory at once: one may be large, and a tenant may have many jobs."""


@dataclass(frozen=True, slots=True)
class TrainingQuota:
    """The most unfinished jobs, and the most tokens that a tenant's jobs may read per UTC day; 0 means no limit."""

    jobs: int = 0
    tokens_per_day: int = 0

    def check_new(self, session: Session, tenant: str) -> None:
        """Refuse a new job if the tenant has the most already, or has used up the day's tokens.

        Raises:
            RateLimitExceeded: it has.
        """
        if self.jobs:
            count = session.scalars(select(func.count()).where(*_open_jobs(tenant))).one()
            if count >= self.jobs:
                raise RateLimitExceeded(
                    f"The tenant may have {self.jobs} unfinished fine-tuning jobs and has {count}. "
                    "Wait for one, or cancel one.",
                    limit="training_jobs",
                )
        if self.tokens_per_day and (used := trained_today(session, tenant, now=time.time())) >= self.tokens_per_day:
            raise RateLimitExceeded(
                f"The tenant's jobs may read {self.tokens_per_day} tokens per day (UTC) and have read {used} today.",
                limit="training_tokens_per_day",
            )

    def exceeded_by(self, session: Session, tenant: str, job_id: str, request: FineTuning) -> str | None:
        """Return why a job whose data has been counted exceeds the day's tokens, or None if it does not.

        Those that the tenant's other unfinished jobs still have to read count as well.
        """
        planned = planned_tokens(request)
        if not self.tokens_per_day or planned is None:
            return None
        used = trained_today(session, tenant, now=time.time())
        ahead = sum(_left(*texts) for texts in session.execute(_others(tenant, job_id)))
        if used + ahead + planned <= self.tokens_per_day:
            return None
        return (
            f"The job would read {planned} tokens. The tenant's jobs may read {self.tokens_per_day} per day (UTC), "
            f"have read {used} today and have {ahead} ahead of them."
        )


def check_name(session: Session, tenant: str, name: str, quota: Quota) -> None:
    """Refuse a job whose adapter would be one too many, as things are.

    Raises:
        RateLimitExceeded: it would; `suffix` named it.
    """
    try:
        if _is_new(session, tenant, name):
            quota.check_new_name(session, tenant)
    except RateLimitExceeded as error:
        raise RateLimitExceeded(error.message, limit=error.limit, param="suffix") from None


def check_publication(session: Session, tenant: str, name: str, artifact: StoredBytes, quota: Quota) -> None:
    """Refuse a version of the adapter if the tenant would exceed its quota.

    Raises:
        RateLimitExceeded: it would.
    """
    is_new_name = _is_new(session, tenant, name)
    quota.check(session, tenant, artifact.digest, artifact.size_bytes, is_new_name=is_new_name)


def planned_tokens(request: FineTuning) -> int | None:
    """Return how many tokens a job will read in all its epochs; None before its data has been counted."""
    epochs = request.hyperparameters.n_epochs
    if request.counts is None or request.counts.tokens is None or epochs == "auto":
        return None
    return request.counts.tokens * epochs


def _is_new(session: Session, tenant: str, name: str) -> bool:
    row = session.scalar(adapter(tenant, name))
    return row is None or row.current is None


def _open_jobs(tenant: str) -> tuple[ColumnElement[bool], ...]:
    return JobRow.tenant == tenant, JobRow.kind == KIND, JobRow.state.not_in(ENDED)


def _others(tenant: str, job_id: str) -> Select[str, str]:
    others = select(JobRow.request, JobRow.progress).where(*_open_jobs(tenant), JobRow.id != job_id)
    return others.execution_options(yield_per=_AT_ONCE)


def _left(request: str, progress: str) -> int:
    planned = planned_tokens(read_request(request)) or 0
    return max(0, planned - read_progress(progress).trained_tokens)
