"""What the check of a job's data found."""

import msgspec

from headmix_server.fine_tuning.request import FineTuning
from headmix_server.fine_tuning.result import JobError


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Either the request with recipe, figures and counts, or why its data cannot be used. `notes` are worth knowing."""

    request: FineTuning | None = None
    error: JobError | None = None
    notes: tuple[str, ...] = ()
