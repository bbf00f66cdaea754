"""The folder of an unfinished run: whose run it is, and the newest checkpoint that is whole.

A checkpoint is the adapter, the optimizer and the trainer's state; the base is never in it. The Trainer writes its
state file last, so a checkpoint without a readable one was cut short and does not count.
"""

import shutil
from pathlib import Path

import msgspec

from headmix_adapters.train.errors import TrainError

_IDENTITY_FILE = "run.json"
_STATE_FILE = "trainer_state.json"


class RunIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be the same for a run to be continued, and the base's score, which it need not repeat."""

    recipe: str
    train_data: str
    eval_data: str
    base: str
    base_scores: dict[str, float] | None = None

    def continues(self, other: "RunIdentity") -> bool:
        """Whether both are runs of the same recipe, data and base."""
        return msgspec.structs.replace(self, base_scores=None) == msgspec.structs.replace(other, base_scores=None)


class RunFolder:
    """Checkpoints of one run, beside the artifact it will write."""

    def __init__(self, artifact: Path) -> None:
        self.path = artifact.with_name(f"{artifact.stem}.checkpoints")

    def require_unused(self) -> None:
        """Make sure that a new run destroys nothing.

        Raises:
            TrainError: an unfinished run has checkpoints here.
        """
        if self.last_checkpoint() is not None:
            raise TrainError(f"{self.path} holds an unfinished run: continue it with --resume, or delete the folder")

    def start(self, identity: RunIdentity) -> None:
        """Note whose run this is, before its first checkpoint."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / _IDENTITY_FILE).write_bytes(msgspec.json.encode(identity))

    def resume(self, identity: RunIdentity) -> tuple[Path, RunIdentity]:
        """Return the newest whole checkpoint and the identity its run was started with.

        Raises:
            TrainError: there is none, or it belongs to another recipe, other data or another base.
        """
        checkpoint = self.last_checkpoint()
        if checkpoint is None:
            raise TrainError(f"there is nothing to resume in {self.path}")
        try:
            stored = msgspec.json.decode((self.path / _IDENTITY_FILE).read_bytes(), type=RunIdentity)
        except (OSError, msgspec.DecodeError) as error:
            raise TrainError(f"{self.path / _IDENTITY_FILE} cannot be read: {error}") from error
        if not stored.continues(identity):
            raise TrainError(
                f"the run in {self.path} had another recipe, other data or another base: delete the folder"
            )
        return checkpoint, stored

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that was written to its end."""
        numbered = {
            int(folder.name.removeprefix("checkpoint-")): folder
            for folder in self.path.glob("checkpoint-*")
            if folder.name.removeprefix("checkpoint-").isdigit() and _is_whole(folder)
        }
        return numbered[max(numbered)] if numbered else None

    def remove(self) -> None:
        """Delete the folder of a run that is finished."""
        shutil.rmtree(self.path, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        msgspec.json.decode((folder / _STATE_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return True
