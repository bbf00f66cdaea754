"""A run's folder as one file, to go on from it on another machine, and back.

The trainer may go on while its folder is packed: a checkpoint's files do not change once it is complete, and it removes
an old checkpoint only after a newer one is complete.
"""

import tarfile
from pathlib import Path

_CHECKPOINT = "checkpoint-"
_LOCK = "lock"


def pack(run: Path, step: int, target: Path) -> bool:
    """Write a run's folder, as it is after a step, into a file; return false if the run has removed parts of it."""
    try:
        with tarfile.open(target, "w") as tar:
            for path in sorted(run.iterdir()):
                if path.name != _LOCK and not path.name.startswith(".") and _is_of(path, step):
                    tar.add(path, path.relative_to(run.parent))
            return any(name.endswith(f"{_CHECKPOINT}{step}") for name in tar.getnames())
    except FileNotFoundError:
        return False


def unpack(source: Path, folder: Path) -> None:
    """Recreate a run's folder in another one.

    Raises:
        tarfile.TarError: the file is not one that `pack` has written.
    """
    with tarfile.open(source) as tar:
        tar.extractall(folder, filter="data")


def _is_of(path: Path, step: int) -> bool:
    number = path.name.removeprefix(_CHECKPOINT)
    return not path.name.startswith(_CHECKPOINT) or (number.isdigit() and int(number) <= step)
