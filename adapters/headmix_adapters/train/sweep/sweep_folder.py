"""The folder of an unfinished sweep, next to the artifact it will write: its runs, and the outcome of each that ended.

A run's own checkpoints are in this folder too, so that a sweep continues within the run that was interrupted.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.train.checkpoints.folder_lock import folder_locked
from headmix_adapters.train.checkpoints.run_folder import RunRecord
from headmix_adapters.train.errors import TargetError, TrainError
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.sweep.grid import Candidate

_RECORD_FILE = "sweep.json"


class Outcome(msgspec.Struct, frozen=True):
    """How a run of a sweep ended: with an artifact and its scores, or diverged, for the reason in `diverged`.

    `steps` are those it took until then.
    """

    digest: str = ""
    adapter: Evaluation | None = None
    steps: int = 0
    below_base: bool = False
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    diverged: str = ""


_RECORD = msgspec.json.Decoder(RunRecord)
_OUTCOME = msgspec.json.Decoder(Outcome)


class SweepFolder:
    """The folder of the sweep that will write `artifact`."""

    def __init__(self, artifact: Path) -> None:
        self.artifact = artifact
        self.path = artifact.with_name(f"{artifact.stem}.sweep")

    @property
    def begun(self) -> bool:
        """Whether it holds an unfinished sweep."""
        return (self.path / _RECORD_FILE).is_file()

    def require_startable(self, *, resume: bool) -> None:
        """Make sure that a sweep neither mixes with another one nor continues nothing.

        Raises:
            TargetError: an unfinished sweep is in the way, or there is none to resume.
        """
        if resume and not self.begun:
            raise TargetError(f"there is no sweep to resume in {self.path}")
        if self.begun and not resume:
            raise TargetError(f"{self.path} holds an unfinished sweep: continue it with --resume, or delete the folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder during the block.

        Raises:
            TargetError: another sweep is in it, or nothing can be written there.
        """
        with folder_locked(self.path, "sweep"):
            try:
                yield
            finally:
                if not self.begun:
                    self.remove()

    def start(self, record: RunRecord) -> None:
        """Record what the sweep is of, and the base's scores, which all its runs share."""
        write_durably(self.path / _RECORD_FILE, msgspec.json.encode(record))

    def record(self) -> RunRecord:
        """Return what the unfinished sweep recorded when it began.

        Raises:
            TrainError: it cannot be read.
        """
        try:
            return _RECORD.decode((self.path / _RECORD_FILE).read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrainError(f"{self.path / _RECORD_FILE} cannot be read: {error}") from error

    def artifact_of(self, candidate: Candidate) -> Path:
        """Return where a run writes its artifact."""
        return self.path / candidate.file_name

    def outcome(self, candidate: Candidate) -> Outcome | None:
        """Return how a run ended, or None if it has not."""
        try:
            return _OUTCOME.decode(self._outcome_file(candidate).read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def end(self, candidate: Candidate, outcome: Outcome) -> None:
        """Record how a run ended."""
        write_durably(self._outcome_file(candidate), msgspec.json.encode(outcome))

    def remove(self) -> None:
        """Delete the folder of a finished sweep."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _outcome_file(self, candidate: Candidate) -> Path:
        return self.artifact_of(candidate).with_suffix(".json")
