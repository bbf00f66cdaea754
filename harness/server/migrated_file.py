"""An SQLite database with the current schema, ready to be copied: migrations take longer than most tests."""

import tempfile
from functools import cache
from pathlib import Path

from headmix_server.database import open_database


@cache
def migrated_file() -> bytes:
    """Return the content of an SQLite file with the current schema; the migrations run only once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headmix.db"
        open_database(file).dispose()
        return file.read_bytes()
