"""Files of a database and store under one folder, as a server opens them, and what must be true of them at rest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from pydantic import SecretStr
from sqlalchemy import Engine, select

from headmix_server.catalog.tables import FileRow
from headmix_server.core.settings.settings import Settings
from headmix_server.database import reading
from headmix_server.files.files import Files
from headmix_server.files.open import open_files
from headmix_server.files.sweep import Sweep
from headmix_server.files.tables import FileHoldRow, FileTombstoneRow, UploadPartRow

BUCKET = "bucket.url"
"""The file in a folder that names its bucket; without it the bytes are in the folder."""
DAY_SECONDS = 24 * 3600


def open_in(folder: Path, engine: Engine, *, removes_bytes: bool = True) -> Files:
    """Open the files as the server does, or as a worker does if it may not remove bytes."""
    named = folder / BUCKET
    artifacts = SecretStr(named.read_text()) if named.exists() else None
    settings = Settings(data_dir=folder, artifacts=artifacts)
    return open_files(settings, engine, folder / "files", removes_bytes=removes_bytes)


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """Have rows expire as if this much time had passed."""
    real = time.time
    with patch.object(time, "time", lambda: real() + seconds):
        yield


def check_at_rest(folder: Path, engine: Engine) -> set[str]:
    """Restart, let what is unfinished expire, and return the digests of the bytes there: those of the files alone."""
    files = open_in(folder, engine)
    sweep = Sweep(engine, files, young=timedelta(0))
    with later(3 * DAY_SECONDS):
        sweep.expire()
    there = {digest for digest, _ in files.bytes.digests()}
    with reading(engine) as session:
        assert there == set(session.scalars(select(FileRow.digest)))
        for table in (FileHoldRow, FileTombstoneRow, UploadPartRow):
            assert session.scalars(select(table)).all() == []
    sweep.collect()
    assert {digest for digest, _ in files.bytes.digests()} == there
    assert list((folder / "files" / "incoming").iterdir()) == []
    for digest in there:
        files.fetch(digest, folder / "copy")
        (folder / "copy").unlink()
    return there
