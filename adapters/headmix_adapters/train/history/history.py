"""A run's history: the loss of every step and all held-out scores, in a file that ends up next to the artifact.

While the run lasts, the file is in its folder. A resumed run goes back to what the file had at its checkpoint, so that
the file of a finished run does not show whether the run was interrupted.
"""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.train.errors import TrainError
from headmix_adapters.train.history.events import Event, Scored, Started, Step, decode_events, encode_event


@dataclass(frozen=True, slots=True)
class History:
    """The events of a run up to some step."""

    started: Started | None = None
    steps: list[Step] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        """All of them, in the order in which they happened."""
        # Sorting is stable: a step comes before the scores after it.
        numbered: list[Step | Scored] = [*self.steps, *self.scored]
        numbered.sort(key=lambda event: event.step)
        return [*numbered] if self.started is None else [self.started, *numbered]

    @property
    def tokens(self) -> int:
        """The number of tokens read so far."""
        return self.steps[-1].tokens if self.steps else 0

    def until(self, step: int) -> "History":
        """Return what had happened after a step."""
        return History(
            self.started,
            [event for event in self.steps if event.step <= step],
            [event for event in self.scored if event.step <= step],
        )

    def losses_since_scored(self) -> list[float]:
        """Return the losses of the steps since the held-out data was last scored."""
        last = self.scored[-1].step if self.scored else 0
        return [event.train_loss for event in self.steps if event.step > last]


def history_path(artifact: Path) -> Path:
    """Return where the history of an artifact's run is."""
    return artifact.with_name(f"{artifact.stem}.history.jsonl")


def run_folder_path(artifact: Path) -> Path:
    """Return the folder in which an artifact's run keeps what it needs to resume."""
    return artifact.with_name(f"{artifact.stem}.checkpoints")


def read_history(path: Path) -> History:
    """Read a history, for example to draw its curves.

    Raises:
        TrainError: it cannot be read, or is not a history.
    """
    try:
        events = decode_events(path.read_bytes())
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path} is not a history of training: {error}") from error
    history = History(next((event for event in events if isinstance(event, Started)), None))
    for event in events:
        if isinstance(event, Step):
            history.steps.append(event)
        elif isinstance(event, Scored):
            history.scored.append(event)
    return history


def write_history(path: Path, history: History) -> None:
    """Write a history, all or nothing."""
    write_durably(path, b"".join(map(encode_event, history.events)))
