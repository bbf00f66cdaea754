"""Owns the types of a tenant's files. Times are Unix seconds."""

from headmix.types.result import Part, Result


class File(Result):
    """A file: `purpose` is what it is for, `bytes` its size. Without `expires_at` it exists until it is deleted."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: str = "processed"


class DeletedFile(Result):
    """The deletion of a file; `held_by_jobs` of its bytes count towards the tenant's until unfinished jobs end."""

    id: str
    deleted: bool = True
    held_by_jobs: int = 0


class FileList(Part):
    """The response body around files."""

    data: tuple[File, ...]
    has_more: bool = False
