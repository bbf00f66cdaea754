"""Takes a new job through the check of its data: from its stored files to the queue, or to its failure."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_server.database import writing
from headmix_server.files.files import Files
from headmix_server.fine_tuning.check.checked import Checked
from headmix_server.fine_tuning.check.run import check_isolated
from headmix_server.fine_tuning.failure import fail_job
from headmix_server.fine_tuning.quotas import TrainingQuota
from headmix_server.fine_tuning.request import FineTuning, read_request
from headmix_server.fine_tuning.result import JobError
from headmix_server.jobs.changes import add_events
from headmix_server.jobs.job import Job, NewEvent
from headmix_server.jobs.jobs import Jobs


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks jobs for one base. `folder` is for copies of their files; `quota_of` returns a tenant's limits.

    `most_labels` is how many labels an adapter may have here.
    """

    engine: Engine
    jobs: Jobs
    files: Files
    base: ResolvedBase
    folder: Path
    limits: ConversionLimits
    most_labels: int
    quota_of: Callable[[str], TrainingQuota]

    async def check(self, job: Job) -> None:
        """Check a job's data and queue the job, or let it fail; one that was cancelled meanwhile stays so.

        Raises:
            HeadmixServerError: its files cannot be had now, or the database cannot; the job stays as it is.
            CheckError: the checking process failed; the job stays as it is.
        """
        request = read_request(job.request)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="check-") as folder:
            await asyncio.to_thread(self._fetch, request, Path(folder))
            checked = await check_isolated(request, Path(folder), self.base, self.limits, most_labels=self.most_labels)
        await asyncio.to_thread(self._settle, job, checked)

    def _fetch(self, request: FineTuning, folder: Path) -> None:
        self.files.fetch(request.training.digest, folder / request.training_name)
        if request.validation is not None and (name := request.validation_name) is not None:
            self.files.fetch(request.validation.digest, folder / name)

    def _settle(self, job: Job, checked: Checked) -> None:
        if checked.request is None:
            fail_job(
                self.jobs,
                job,
                checked.error or JobError(code="internal_error", message="the check found nothing"),
            )
            return
        with writing(self.engine, job.tenant) as session:
            over = self.quota_of(job.tenant).exceeded_by(session, job.tenant, job.id, checked.request)
            if over is None:
                self._queue(session, job, checked)
        if over is not None:
            fail_job(self.jobs, job, JobError(code="rate_limit_exceeded", message=over))

    def _queue(self, session: Session, job: Job, checked: Checked) -> None:
        request = checked.request
        if request is None:
            raise ValueError("there is nothing to queue")
        notes = [NewEvent(note, level="warn") for note in checked.notes]
        add_events(session, job.id, notes, now=int(time.time()))
        event = NewEvent("Files validated, moving job to queued state")
        self.jobs.move_in(session, job.id, before=(job.state,), after="queued", request=request.json(), event=event)
