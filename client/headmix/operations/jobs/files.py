"""Owns the requests that manage a tenant's files: what jobs read, and what they write."""

import os
from collections.abc import Mapping
from pathlib import Path

from headmix.http.download import check_digest, digest_of
from headmix.http.request import Request, parser_of, segment
from headmix.http.upload import FileSource, Progress, Source, Upload
from headmix.page import Page
from headmix.types.jobs.file import DeletedFile, File, FileList
from headmix.types.result import ResponseMeta

FILES = "/v1/files"
_PAGE = 1000
_UNNAMED = "file"


def upload(
    file: FileSource,
    purpose: str,
    *,
    filename: str | None = None,
    expires_after: int | None = None,
    progress: Progress | None = None,
) -> Request[File]:
    """Upload a file for jobs: `purpose` is `fine-tune` or `batch`.

    `file` is a path, bytes, or a seekable binary file, and is streamed; `progress(done, total)` counts its bytes.
    `filename` is shown in lists; a path's own name is the default. `expires_after` is in seconds: an hour to 30 days.

    Raises:
        PayloadTooLargeError: the file is larger than the server accepts.
        RateLimitError: the tenant may not store as much.
        InsufficientStorageError: the server has no room for it.
        OSError: the file cannot be read.
    """
    fields = {"purpose": purpose}
    if expires_after is not None:
        fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after)}
    named = filename or (Path(file).name if isinstance(file, str | os.PathLike) else _UNNAMED)
    sent = Upload(fields, Source.of(file), progress, filename=named)
    return Request("POST", FILES, parser_of(File), upload=sent, repeatable=False)


def list_files(*, purpose: str | None = None) -> Request[Page[File]]:
    """List the tenant's files, newest first, or those of one purpose."""
    query: Mapping[str, str | int] = {"limit": _PAGE} | ({} if purpose is None else {"purpose": purpose})
    return Request("GET", FILES, parse_files, query=query)


def get_file(file_id: str) -> Request[File]:
    """Get a file's name, size and purpose.

    Raises:
        NotFoundError: no such file.
    """
    return Request("GET", f"{FILES}/{segment(file_id)}", parser_of(File))


def download(file_id: str) -> Request[bytes]:
    """Download a file's bytes, checked against the digest the server announces.

    Raises:
        NotFoundError: no such file.
        DigestMismatchError: the bytes differ from the digest.
    """
    return Request("GET", f"{FILES}/{segment(file_id)}/content", _verified)


def delete(file_id: str) -> Request[DeletedFile]:
    """Delete a file; jobs that were made with it keep its bytes, which count until they end.

    Raises:
        NotFoundError: no such file.
    """
    return Request("DELETE", f"{FILES}/{segment(file_id)}", parser_of(DeletedFile), repeatable=False)


def parse_files(body: bytes, meta: ResponseMeta) -> Page[File]:
    """Parse one page of a list of files."""
    found = parser_of(FileList)(body, meta)
    return Page(found.data, found.data[-1].id if found.has_more and found.data else None)


def _verified(body: bytes, meta: ResponseMeta) -> bytes:
    check_digest(digest_of(body), meta.digest)
    return body
