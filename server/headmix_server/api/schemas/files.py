"""Bodies of /v1/files and /v1/uploads."""

from typing import Annotated, Literal

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.common import LARGEST, Name
from headmix_server.api.schemas.numbers import Whole
from headmix_server.api.uploads.receive_file import LONGEST, SHORTEST
from headmix_server.files.files import FilePage
from headmix_server.files.stored_file import MAX_FILENAME, Purpose, StoredFile
from headmix_server.files.uploads import MOST_PARTS, Part, PartialUpload, UploadState


class FileObject(ResponseBody):
    """A file. Times are in Unix seconds; `expires_at` is null if it exists until it is deleted.

    `status` is what OpenAI's clients wait for: a file is whole as soon as it exists. A job that uses it checks what is
    in it.
    """

    object: Literal["file"] = "file"
    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(ResponseBody):
    """The tenant's files by time; `has_more` is true if more follow."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(ResponseBody):
    """A deleted file; `held_by_jobs` of its bytes count towards `stored_bytes` until unfinished jobs end."""

    object: Literal["file"] = "file"
    id: str
    deleted: Literal[True] = True
    held_by_jobs: int


class ExpiresAfter(RequestBody):
    """When a file stops to exist: so many seconds after it was created."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST, le=LONGEST), Whole]


class UploadRequest(RequestBody):
    """A file that will arrive in parts: how many `bytes` it has and what it is called."""

    bytes: Annotated[int, Field(ge=1, le=LARGEST), Whole]
    filename: Annotated[Name, Field(min_length=1, max_length=MAX_FILENAME)]
    mime_type: Annotated[Name, Field(max_length=MAX_FILENAME)] = ""
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteRequest(RequestBody):
    """The parts that make the file, in order; `md5` is the file's sum in hexadecimal, to compare."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[str, Field(pattern="^[0-9A-Fa-f]{32}$")] | None = None


class UploadObject(ResponseBody):
    """An upload in parts; `file` is what it became. It expires an hour after it was created."""

    object: Literal["upload"] = "upload"
    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: UploadState
    file: FileObject | None


class PartObject(ResponseBody):
    """A stored part."""

    object: Literal["upload.part"] = "upload.part"
    id: str
    created_at: int
    upload_id: str


def file_object(file: StoredFile) -> FileObject:
    """Return a file as clients see it."""
    return FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=file.created,
        expires_at=file.expires,
        filename=file.filename,
        purpose=file.purpose,
    )


def file_page(page: FilePage) -> bytes:
    """Return a page as JSON. Call it in a thread: a large page would block the event loop."""
    data = [file_object(file) for file in page.files]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    found = FileList(data=data, first_id=first, last_id=last, has_more=page.has_more)
    return found.model_dump_json().encode()


def upload_object(upload: PartialUpload) -> UploadObject:
    """Return an upload in parts as clients see it."""
    return UploadObject(
        id=upload.id,
        bytes=upload.size_bytes,
        created_at=upload.created,
        expires_at=upload.expires,
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.state,
        file=None if upload.file is None else file_object(upload.file),
    )


def part_object(part: Part) -> PartObject:
    """Return a part as clients see it."""
    return PartObject(id=part.id, created_at=part.created, upload_id=part.upload_id)
