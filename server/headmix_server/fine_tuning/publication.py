"""Makes a trained artifact a version of the tenant's adapter, and with it ends the job: both in one transaction.

So a server that dies at any point publishes once: before the transaction there is neither, after it both. Only the
server, which holds the database's lease, does this; a worker never writes the catalog.

An adapter that scores below its base takes no requests from the current version, whatever the job asked for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.library import Library
from headmix_server.catalog.quota import Quota
from headmix_server.catalog.rollout.canary import start_canary
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Canary
from headmix_server.core.errors import InvalidRequest
from headmix_server.database import audit, reading
from headmix_server.files.files import Files
from headmix_server.files.record import record_file
from headmix_server.files.stored_file import Purpose
from headmix_server.fine_tuning.quotas import check_publication
from headmix_server.fine_tuning.request import FineTuning, read_request
from headmix_server.fine_tuning.result import ResultFile, Trained, read_trained
from headmix_server.jobs.changes import add_events
from headmix_server.jobs.job import Job, NewEvent
from headmix_server.jobs.jobs import Jobs

_COPY_BYTES = 1 << 20


class JobMovedOnError(Exception):
    """The job is no longer to be published; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes jobs. `verify` checks an upload as the API does, and `quota_of` returns a tenant's quota."""

    engine: Engine
    jobs: Jobs
    files: Files
    library: Library
    verify: Callable[[Upload], AdapterRecord]
    quota_of: Callable[[str], Quota]
    max_bytes: int

    def publish(self, job: Job) -> AdapterVersion:
        """Publish the artifact of a job whose training is done, and end the job.

        Raises:
            JobMovedOnError: it is no longer to be published.
            InvalidAdapter, AdapterTooLarge, ArtifactDamaged: it cannot be served.
            RateLimitExceeded: the tenant would exceed its quota; it may succeed later.
            InsufficientStorage, StorageUnavailable: it may succeed later.
        """
        request, trained = read_request(job.request), read_trained(job.result or "")
        quota = self.quota_of(job.tenant)
        with reading(self.engine) as session:  # checked again with the change; here, before much is copied for nothing
            check_publication(session, job.tenant, request.name, trained.artifact, quota)
        with self.library.store.receive(max_bytes=self.max_bytes) as upload:
            with self.files.open_bytes(trained.artifact.digest) as file:
                while data := file.read(_COPY_BYTES):
                    upload.write(data)
            upload.finish()
            record = self.verify(upload)

            def end(session: Session, version: AdapterVersion) -> None:
                self._end(session, job, request, trained, version)

            published = self.library.publish(
                job.tenant,
                request.name,
                upload,
                record,
                current=request.publish.how == "current" and not trained.below_base,
                may_be_first=True,
                actor=request.actor,
                quota=quota,
                also=end,
            )
        return published.version

    def _end(self, session: Session, job: Job, request: FineTuning, trained: Trained, version: AdapterVersion) -> None:
        events = [*_rollout_events(session, request, trained, version)]
        files = tuple(self._recorded(session, job, request, file) for file in trained.files)
        result = msgspec.structs.replace(trained, files=files, fine_tuned_model=version.reference)
        events.append(NewEvent(f"New fine-tuned model created: {version.reference}"))
        events.append(NewEvent("The job has successfully completed"))
        audit(session, request.actor, job.tenant, "fine_tuning.succeed", job.id, adapter=version.reference)
        add_events(session, job.id, events, now=int(time.time()))
        if not self.jobs.move_in(session, job.id, before=(job.state,), after="succeeded", result=result.json()):
            raise JobMovedOnError(job.id)

    def _recorded(self, session: Session, job: Job, request: FineTuning, file: ResultFile) -> ResultFile:
        """Make a result the tenant's file. It is written even over the quota, which the next upload then meets."""
        stored = record_file(
            session,
            job.tenant,
            Purpose.FINE_TUNE_RESULTS,
            file.filename,
            file.digest,
            file.size_bytes,
            actor=request.actor,
        )
        return msgspec.structs.replace(file, id=stored.id)


def _rollout_events(session: Session, request: FineTuning, trained: Trained, version: AdapterVersion) -> list[NewEvent]:
    """Start the canary if one is wanted; return what differs from what was asked for."""
    if trained.below_base and not version.current and request.publish.how != "beside":
        text = f"{version.reference} scores below its base, so it is published beside the current version"
        return [NewEvent(text, level="warn")]
    if request.publish.how != "canary":
        return []
    if version.current:
        return [NewEvent(f"{version.reference} is the current version, so it is no canary", level="warn")]
    canary = Canary(version.version, request.publish.percent)
    try:
        start_canary(session, version.tenant, version.name, canary, actor=request.actor)
    except InvalidRequest as error:
        return [NewEvent(f"No canary was started: {error.message}", level="warn")]
    return [NewEvent(f"{version.reference} is the canary, with {canary.percent} % of the requests")]
