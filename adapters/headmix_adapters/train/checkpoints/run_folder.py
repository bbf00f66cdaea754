"""The folder of an unfinished run: its identity, the artifact it may replace, and its newest complete checkpoint.

A checkpoint is the adapter, the optimizer and the trainer's state, never the base. The Trainer writes its state file
last, so a checkpoint without a readable one was interrupted and is ignored.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headmix_adapters.artifact.digest import digest_file
from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.train.checkpoints.folder_lock import folder_locked
from headmix_adapters.train.errors import TargetError, TrainError
from headmix_adapters.train.history.history import run_folder_path
from headmix_adapters.train.scoring.evaluate import Evaluation

_RECORD_FILE = "run.json"
_STATE_FILE = "trainer_state.json"
_HISTORY_FILE = "history.jsonl"
_CHECKPOINT = "checkpoint-"


class RunIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be unchanged for a run to be resumed."""

    recipe: str
    train_data: str
    eval_data: str
    base: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run recorded when it began, so that resuming it need not compute it again.

    `replaces` is the digest of the artifact that was at the run's path when the run was allowed to replace it.
    """

    identity: RunIdentity
    base: Evaluation | None = None
    probe: Evaluation | None = None
    replaces: str | None = None


_RECORD = msgspec.json.Decoder(RunRecord)


class RunFolder:
    """The checkpoints of one run, next to the artifact it will write.

    Raises:
        TargetError: the artifact's path has no file name.
    """

    def __init__(self, artifact: Path) -> None:
        if not artifact.name:
            raise TargetError(f"{artifact} is a folder; --output names the artifact's file")
        self.artifact = artifact
        self.path = run_folder_path(artifact)
        self.history = self.path / _HISTORY_FILE

    def require_startable(self, *, resume: bool, force: bool) -> None:
        """Make sure, before anything is computed, that a run can write its artifact and overwrites nothing.

        Raises:
            TargetError: an artifact or an unfinished run already exists there; or there is none to resume; or nothing
                can be written there.
        """
        if self.artifact.is_dir():
            raise TargetError(f"{self.artifact} is a folder; --output names the artifact's file")
        nearest = next(folder for folder in self.path.absolute().parents if folder.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise TargetError(f"{self.artifact} cannot be written: {nearest} is not a writable folder")
        unfinished = self.last_checkpoint() is not None
        if resume and not unfinished:
            raise TargetError(f"there is nothing to resume in {self.path}")
        if unfinished and not resume:
            raise TargetError(f"{self.path} holds an unfinished run: continue it with --resume, or delete the folder")
        self.require_replaceable(self.record() if resume else None, force=force)

    def require_replaceable(self, record: RunRecord | None, *, force: bool) -> None:
        """Make sure that an existing artifact is the one this run was allowed to replace, unless `force` is set.

        Raises:
            TargetError: it is another one.
        """
        if force or not self.artifact.exists():
            return
        if record is None:
            raise TargetError(f"{self.artifact} exists; --force replaces it, --output writes elsewhere")
        if record.replaces != digest_file(self.artifact):
            raise TargetError(
                f"{self.artifact} was written after this run began; --resume --force replaces it, "
                "or move it away and --resume"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in the same folder during the block.

        Raises:
            TargetError: another process already does, or nothing can be written there.
        """
        with folder_locked(self.path, "run"):
            try:
                yield
            finally:
                if self.last_checkpoint() is None:  # a run without a checkpoint leaves nothing behind
                    self.remove()

    def start(self, record: RunRecord) -> None:
        """Record the run's identity, before its first checkpoint."""
        write_durably(self.path / _RECORD_FILE, msgspec.json.encode(record))

    def record(self) -> RunRecord:
        """Return what the unfinished run recorded when it began.

        Raises:
            TrainError: it cannot be read.
        """
        try:
            return _RECORD.decode((self.path / _RECORD_FILE).read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrainError(f"{self.path / _RECORD_FILE} cannot be read: {error}") from error

    def resume(self, identity: RunIdentity) -> tuple[Path, RunRecord]:
        """Return the newest complete checkpoint and what its run recorded when it began.

        Raises:
            TrainError: there is none, or it belongs to another recipe, other data or another base.
        """
        checkpoint = self.last_checkpoint()
        if checkpoint is None:
            raise TrainError(f"there is nothing to resume in {self.path}")
        record = self.record()
        if record.identity != identity:
            raise TrainError(
                f"the run in {self.path} had another recipe, other data or another base: delete the folder"
            )
        return checkpoint, record

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that was written completely."""
        numbered = {
            checkpoint_step(folder): folder
            for folder in self.path.glob(f"{_CHECKPOINT}*")
            if folder.name.removeprefix(_CHECKPOINT).isdigit() and _is_whole(folder)
        }
        return numbered[max(numbered)] if numbered else None

    def remove(self) -> None:
        """Delete the folder of a finished run."""
        shutil.rmtree(self.path, ignore_errors=True)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the optimizer step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_CHECKPOINT))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where a run's folder has the checkpoint of an optimizer step."""
    return folder / f"{_CHECKPOINT}{step}"


def _is_whole(folder: Path) -> bool:
    try:
        msgspec.json.decode((folder / _STATE_FILE).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
