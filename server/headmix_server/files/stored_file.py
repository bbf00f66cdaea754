"""A file as its tenant sees it: what it is for, its name and id, and how long it exists."""

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_

from headmix_server.catalog.tables import FileRow
from headmix_server.core.errors import InvalidRequest, NotFound

MAX_FILENAME = 255
_ID = "file-"
_TIME_DIGITS = 8
_RANDOM_BYTES = 8


class Purpose(StrEnum):
    """What a file is for. Clients upload the first two; jobs write the others."""

    FINE_TUNE = "fine-tune"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    FINE_TUNE_RESULTS = "fine-tune-results"


UPLOADED = (Purpose.FINE_TUNE, Purpose.BATCH)
"""The purposes of files that clients may upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a tenant's. Times are in Unix seconds; from `expires` on, it does not exist."""

    id: str
    tenant: str
    purpose: Purpose
    filename: str
    digest: str
    size_bytes: int
    created: int
    expires: int | None


def read_file(row: FileRow) -> StoredFile:
    """Return the file in a row."""
    return StoredFile(
        id=row.id,
        tenant=row.tenant,
        purpose=Purpose(row.purpose),
        filename=row.filename,
        digest=row.digest,
        size_bytes=row.size_bytes,
        created=row.created,
        expires=row.expires,
    )


def new_id(created: int) -> str:
    """Return an id for a file created at this time, which is in it: so pages can continue after a deleted file."""
    return f"{_ID}{created:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"


def created_in(file_id: str, *, param: str) -> int:
    """Return the time in a file's id, whether or not the file exists.

    Raises:
        InvalidRequest: it is no id of a file; `param` named it.
    """
    digits = file_id.removeprefix(_ID)
    if file_id.startswith(_ID) and len(digits) == _TIME_DIGITS + 2 * _RANDOM_BYTES:
        try:
            return int(digits[:_TIME_DIGITS], 16)
        except ValueError:
            pass
    raise InvalidRequest(f"{param} takes the id of a file, such as the last one of the previous page.", param=param)


def exists_now() -> ColumnElement[bool]:
    """Return the condition that a file has not expired."""
    return or_(FileRow.expires.is_(None), FileRow.expires > int(time.time()))


def no_such_file(file_id: str) -> NotFound:
    """Return the error for an id that is no file of the tenant's."""
    return NotFound(f"There is no file {file_id[:64]!r}.", param="file_id")


def read_purpose(text: str) -> Purpose:
    """Return the purpose of a file that a client uploads.

    Raises:
        InvalidRequest: clients cannot upload such files.
    """
    if text in UPLOADED:
        return Purpose(text)
    raise InvalidRequest(f"purpose takes {' or '.join(UPLOADED)}, not {text[:64]!r}.", param="purpose")


def check_filename(name: str, *, param: str) -> str:
    """Return a file's name, which is shown and never used as a path.

    Raises:
        InvalidRequest: it is empty, too long, or has characters that are not printable.
    """
    if not 0 < len(name) <= MAX_FILENAME or not name.isprintable():
        raise InvalidRequest(f"The file's name has 1 to {MAX_FILENAME} printable characters.", param=param)
    return name
