"""A job's private folder: its data by digest, the recipe, the state to go on from; and what the trainer writes.

Every path that the trainer sees is relative to the folder or a link in it, so that a run continues in another folder,
on another machine, as the same run.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headmix_server.files.files import Files
from headmix_server.fine_tuning.recipe import recipe_of
from headmix_server.fine_tuning.request import FineTuning
from headmix_server.jobs.job import Checkpoint
from headmix_server.training.job.archive import unpack

EVENTS = "events.jsonl"
_BASE = "base"
_STATE = "state.tar"
_PREFIX, _LOCK = "job-", ".lock"


@contextmanager
def private_folder(root: Path) -> Iterator[Path]:
    """Yield a new folder that only this user can read; it is removed at the end."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    try:
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released with the process, however it ends
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(root: Path) -> int:
    """Remove the folders of workers that were killed; return how many there were."""
    return sum(_remove_if_left(folder) for folder in root.glob(f"{_PREFIX}*"))


def _remove_if_left(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # a living worker's, or one that is just being made
        return False
    return True


def prepare(folder: Path, request: FineTuning, checkpoint: Checkpoint | None, files: Files, base: str) -> list[str]:
    """Fill the folder, and return the arguments of `headmix train` that go with it.

    Raises:
        HeadmixServerError: stored bytes are missing or damaged, or the store cannot be reached.
        ValueError, TargetError: the request has no recipe.
    """
    files.fetch(request.training.digest, folder / request.training_name)
    if request.validation is not None and request.validation_name is not None:
        files.fetch(request.validation.digest, folder / request.validation_name)
    recipe = recipe_of(request, folder, base=_linked(folder, base))
    arguments = [recipe.name, "--output", artifact_of(folder, request).name, "--events", EVENTS]
    if checkpoint is None or checkpoint.digest is None:
        return arguments
    files.fetch(checkpoint.digest, folder / _STATE)
    unpack(folder / _STATE, folder)
    (folder / _STATE).unlink()
    return [*arguments, "--resume"]


def artifact_of(folder: Path, request: FineTuning) -> Path:
    """Return where the trainer writes the artifact; its pictures have the file's name as their title."""
    return folder / f"{request.name}.safetensors"


def _linked(folder: Path, base: str) -> str:
    """Return a name of the base that is the same in every folder: its own, or that of a link."""
    path = Path(base).expanduser()
    if not path.exists():
        return base
    link = folder / f"{_BASE}{path.suffix if path.is_file() else ''}"
    link.symlink_to(path.resolve())
    return f"./{link.name}"
