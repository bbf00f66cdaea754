"""An SQLite database of today's schema, ready to be copied: migrations take longer than most tests."""

import tempfile
from functools import cache
from pathlib import Path

from headmix_server.database import open_database


@cache
def migrated_file() -> bytes:
    """Return the content of an SQLite file of today's schema, whose migrations ran once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headmix.db"
        open_database(file).dispose()
        return file.read_bytes()
