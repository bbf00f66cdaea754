"""A new job: its files are the tenant's, and it is within the tenant's limits, in the transaction that makes it."""

from sqlalchemy.orm import Session

from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import InvalidRequest, NotFound
from headmix_server.database import audit
from headmix_server.files.files import Files
from headmix_server.files.references import hold_file
from headmix_server.files.stored_file import Purpose
from headmix_server.fine_tuning.quotas import TrainingQuota, check_name
from headmix_server.fine_tuning.request import FORMATS, KIND, DataFile, FineTuning
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs


def find_data(files: Files, tenant: str, file_id: str, *, param: str) -> DataFile:
    """Return a file to train on.

    Raises:
        InvalidRequest: the tenant has no such file, or it was uploaded for something else; `param` named it.
    """
    try:
        found = files.get(tenant, file_id)
    except NotFound:
        raise _no_file(file_id, param) from None
    if found.purpose is not Purpose.FINE_TUNE:
        message = f"{param} {found.id} was uploaded for {found.purpose.value!r}: upload it for 'fine-tune'."
        raise InvalidRequest(message, param=param)
    file = DataFile(id=found.id, digest=found.digest, filename=found.filename, size_bytes=found.size_bytes)
    if file.format is None:
        message = (
            f"{param} {found.id} is {found.filename!r}, and what is read here is {', '.join(FORMATS)}: convert it, "
            "or upload it under a name that ends in its format."
        )
        raise InvalidRequest(message, param=param)
    return file


def create_job(jobs: Jobs, tenant: str, request: FineTuning, quota: TrainingQuota, storage: Quota) -> Job:
    """Create a job, which the server is to check. It keeps its files' bytes, even if the files are deleted.

    Raises:
        RateLimitExceeded: the tenant has the most jobs already, or has used up the day's tokens, or has no room
            for results, or for another adapter.
        InvalidRequest: a file does not exist any more.
    """

    def check_and_hold(session: Session, job_id: str) -> None:
        quota.check_new(session, tenant)
        storage.check_new_job(session, tenant)
        check_name(session, tenant, request.name, storage)
        for param, file in (("training_file", request.training), ("validation_file", request.validation)):
            if file is None:
                continue
            try:
                hold_file(session, tenant, file.id, holder=job_id)
            except NotFound:
                raise _no_file(file.id, param) from None
        audit(session, request.actor, tenant, "fine_tuning.create", job_id, adapter=request.name)

    return jobs.create(
        tenant, KIND, request.json(), state="validating", base=request.fingerprint, in_transaction=check_and_hold
    )


def _no_file(file_id: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: there is no file {file_id[:64]!r}.", param=param)
