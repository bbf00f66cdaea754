"""Connects the parts that check fine-tuning jobs and publish their results."""

import shutil
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from headmix_server.api.state import ApiState
from headmix_server.api.uploads.publish import verify
from headmix_server.api.uploads.receiving import MIB, quota_of
from headmix_server.fine_tuning.check.checker import Checker
from headmix_server.fine_tuning.check.run import check_limits
from headmix_server.fine_tuning.keeper import JobKeeper
from headmix_server.fine_tuning.publication import Publisher
from headmix_server.fine_tuning.quotas import TrainingQuota


def job_keeper(state: ApiState, database: Engine, folder: Path) -> JobKeeper:
    """Return the keeper of a server's fine-tuning jobs; copies of their data are in `folder`, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checker = Checker(
        engine=database,
        jobs=state.jobs,
        files=state.files,
        base=state.base,
        folder=folder,
        limits=check_limits(state.settings.conversion_niceness),
        most_labels=state.settings.max_labels,
        quota_of=partial(_training_quota, state),
    )
    publisher = Publisher(
        engine=database,
        jobs=state.jobs,
        files=state.files,
        library=state.library,
        verify=partial(verify, state, allow_mismatch=False),
        quota_of=partial(quota_of, state),
        max_bytes=state.settings.max_adapter_mib * MIB,
    )
    return JobKeeper(state.jobs, checker, publisher, state.job_created)


def _training_quota(state: ApiState, tenant: str) -> TrainingQuota:
    limits = state.limits.of(tenant)
    return TrainingQuota(jobs=limits.training_jobs, tokens_per_day=limits.training_tokens_per_day)
