"""The data folder: created, locked against a second server, with the path of each part's files.

docs/operations.md lists its files.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headmix_server.app.errors import SettingError, StartError

# The operating system limits a socket's path to about 104 bytes; the sockets' own names fit in the difference.
LONGEST_RUN_FOLDER = 70
_DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """An open data folder. `run` is private to this server (mode 0700) and removed with all its contents.

    `place` identifies the folder on this machine until the next boot, and is empty if the system doesn't report it: a
    server that has locked a folder with the same `place` knows that no other server is using it.
    """

    root: Path
    run: Path
    place: str = ""

    @property
    def database(self) -> Path:
        """The database's file."""
        return self.root / "headmix.db"

    @property
    def artifacts(self) -> Path:
        """The artifact store's folder."""
        return self.root / "artifacts"

    @property
    def artifact_cache(self) -> Path:
        """The folder of local copies of a bucket's artifacts."""
        return self.root / "artifact-cache"

    @property
    def files(self) -> Path:
        """The folder of tenants' files; if their bytes are in a bucket, of those in use on this machine."""
        return self.root / "files"

    @property
    def base_record(self) -> Path:
        """The file where earlier versions recorded which base the adapters were accepted for."""
        return self.root / "base.json"

    @property
    def checks(self) -> Path:
        """The folder of copies of data that is being checked for fine-tuning jobs."""
        return self.root / "checks"

    @property
    def address(self) -> Path:
        """The file with the URL of the server that uses this folder, which is the server that `admin.key` is for."""
        return self.root / "address"

    @property
    def preloaded(self) -> Path:
        """The file that records what was preloaded."""
        return self.root / "preloaded.json"


@contextmanager
def open_data_folder(root: Path) -> Iterator[DataFolder]:
    """Create the folder if it is missing, lock it, and yield it with an empty run folder.

    Raises:
        SettingError: it cannot be created or written.
        StartError: another server uses it, or the disk fails or is full.
    """
    root = root.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno in _DISK_FAULTS:
            raise StartError(f"the data folder {root} cannot be used: {error.strerror}") from error
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        fault = f"takes a writable folder, not {root}: {reason}"
        raise SettingError("data_dir", fault) from error
    try:
        _take(lock, root)
        run = _make_run_folder(root)
        try:
            yield DataFolder(root, run, _place(lock))
        finally:
            shutil.rmtree(run, ignore_errors=True)
    finally:
        os.close(lock)


def _take(lock: int, root: Path) -> None:
    # The lock is released with the process, however it ends, so it is never stale.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError(f"another headmix server uses the data folder {root}; stop it or choose another") from error
    except OSError as error:
        fault = f"takes a folder on a file system with locks, but {root} is on one without: {error.strerror}"
        raise SettingError("data_dir", fault) from error


def _place(lock: int) -> str:
    # Only processes on the same kernel are sure to see each other's locks, and file numbers only have meaning there.
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    file = os.fstat(lock)
    return f"{boot}:{file.st_dev}:{file.st_ino}"


def run_folder(root: Path) -> Path:
    """Return the path of a data folder's run folder: inside it, or in the system's temp folder if the path is too long.

    The path for a data folder is always the same, so that the next start finds what a killed server left behind.
    """
    folder = root / "run"
    if len(os.fsencode(folder)) <= LONGEST_RUN_FOLDER:
        return folder
    return Path(tempfile.gettempdir()) / f"headmix-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"


def _make_run_folder(root: Path) -> Path:
    folder = run_folder(root)
    # Left behind by a killed server; holding the lock means that nobody uses it.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StartError(f"the run folder {folder} cannot be made: {error.strerror}") from error
    return folder
