"""Writes files all or nothing, even across a power failure. Knows nothing about what is written."""

import os
from pathlib import Path
from uuid import uuid4


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that `path` never names a partial one: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full or the folder is not writable; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
