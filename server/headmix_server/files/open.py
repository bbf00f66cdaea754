"""Opens the files that the settings name: in the data folder, or in the artifacts' bucket."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from headmix_server.catalog.bytes.bucket import open_bucket
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.settings.settings import Settings
from headmix_server.files.bucket_bytes import PREFIX, BucketBytes
from headmix_server.files.bytes import FileBytes, FolderBytes
from headmix_server.files.files import Files


def open_files(
    settings: Settings,
    engine: Engine,
    folder: Path,
    *,
    removes_bytes: bool = False,
    on_bucket_failure: Callable[[], None] = lambda: None,
) -> Files:
    """Return the database's files. `folder` holds them; or, if they are in a bucket, those in use on this machine.

    A server's `folder` is `files` in its data folder, and it alone `removes_bytes`.

    Raises:
        BucketUnusable: the bucket's URL is not valid.
        OSError: the folder cannot be used.
    """
    stored: FileBytes
    if settings.artifacts is None:
        stored = FolderBytes(folder)
    else:
        url = settings.artifacts.get_secret_value()
        bucket = open_bucket(url, on_failure=on_bucket_failure, folder=PREFIX, suffix="")
        stored = BucketBytes(bucket, folder, owner=Catalog(engine).identity())
    return Files(engine, stored, removes_bytes=removes_bytes)
