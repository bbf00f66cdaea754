"""A folder that one process at a time may write to, for as long as a run or a sweep takes.

Owns the lock file. What is in the folder, and what stays there afterwards, is up to its user.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headmix_adapters.train.errors import TargetError

_LOCK_FILE = "lock"


@contextmanager
def folder_locked(path: Path, what: str) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if necessary; `what` calls the other one, such as "run".

    Raises:
        TargetError: another process is in it, or nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / _LOCK_FILE, blocking=False)
        lock.acquire()
    except Timeout as error:
        raise TargetError(f"another {what} is writing to {path}") from error
    except OSError as error:
        raise TargetError(f"{path}: nothing can be written there: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
