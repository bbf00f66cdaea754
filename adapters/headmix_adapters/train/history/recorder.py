"""Receives what happens in a run and writes it: to the run's history, and to the file of `--events` if there is one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headmix_adapters.train.history.event_log import EventLog, EventStream
from headmix_adapters.train.history.events import Checkpoint, Event, Resumed, Scored, Started, Step
from headmix_adapters.train.history.history import History, read_history, write_history

_LOSSES = ("loss", "answer_nll", "mean_squared_error")


class Recorder:
    """The records of one run, from step `resumed` on (0: from its beginning).

    `history` is what happened before; `stream` has or gets everything.
    """

    def __init__(self, path: Path, stream: EventStream | None = None, resumed: int = 0) -> None:
        self.history = read_history(path).until(resumed) if resumed and path.exists() else History()
        write_history(path, self.history)
        self._log = EventLog(path, self.history.events)
        self._stream = stream
        if stream is not None:
            for event in self.history.events:
                stream.write(event)
            if resumed:
                stream.write(Resumed(step=resumed))

    def started(self, about: Started, steps: int, epochs: int) -> None:
        """Record the beginning, once per run; training knows the number of steps."""
        if self.history.started is None:
            self._write(msgspec.structs.replace(about, steps=steps, epochs=epochs))

    def step(self, event: Step) -> None:
        """Record a step."""
        self._write(event)

    def scored(
        self, step: int, epoch: float, train_loss: float | None, scores: dict[str, float], deciding: str
    ) -> None:
        """Record held-out scores."""
        loss = next((scores[name] for name in _LOSSES if name in scores), None)
        self._write(
            Scored(
                step=step,
                epoch=epoch,
                train_loss=train_loss,
                valid_loss=loss,
                score=scores.get(deciding),
                scores=scores,
            )
        )

    def checkpoint(self, step: int, folder: Path) -> None:
        """Report a complete checkpoint."""
        if self._stream is not None:
            self._stream.write(Checkpoint(step=step, path=str(folder)))
            self._stream.sync()

    def sync(self) -> None:
        """Make the history survive a power failure: before a checkpoint that a run may continue from."""
        self._log.sync()

    def close(self) -> None:
        """Write nothing more."""
        self._log.close()

    def _write(self, event: Event) -> None:
        self._log.write(event)
        if self._stream is not None:
            self._stream.write(event)


@contextmanager
def open_recorder(path: Path, stream: EventStream | None, resumed: int) -> Iterator[Recorder]:
    """Return a run's records, which are closed at the end of the block."""
    recorder = Recorder(path, stream, resumed)
    try:
        yield recorder
    finally:
        recorder.close()
