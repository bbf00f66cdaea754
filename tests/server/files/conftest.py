from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.server.s3_server import S3Server, s3_server
from tests.support.storage.files import BUCKET

Place = Callable[[str], Path]


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Makes folders for files whose bytes are in the folder or in a bucket."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if request.param == "bucket":
            server: S3Server = request.getfixturevalue("s3")
            (folder / BUCKET).write_text(server.new_bucket())
        return folder

    return make


@pytest.fixture
def s3_of_its_own(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder for files in a bucket, and what kills the bucket's server."""
    with s3_server() as server:
        (tmp_path / BUCKET).write_text(server.new_bucket())
        yield tmp_path, server.kill
