"""Which failures are not of a job but of what its worker needs: the database, the store, the worker's machine."""

import errno
import os
import tempfile
from pathlib import Path

from headmix_server.core.errors import HeadmixServerError, InsufficientStorage, ServerOverloaded, StorageUnavailable

OUTSIDE = (StorageUnavailable, ServerOverloaded, InsufficientStorage, OSError)
"""They may pass, and another job would meet them too."""
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
_SOME_BYTES = 1 << 20


def reason_of(error: Exception) -> str:
    """Return a failure as its job's tenant may read it: without paths of the worker's machine."""
    if isinstance(error, HeadmixServerError):
        return error.message
    what = error.strerror if isinstance(error, OSError) else None
    return f"The worker's machine is in trouble ({what or type(error).__name__})."


def is_full(folder: Path) -> bool:
    """Return whether not even a small file can be written in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_SOME_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return True
    return False


def says_full(text: str) -> bool:
    """Return whether a program's message is that of the operating system for a full disk."""
    return any(full in text for full in _FULL)
