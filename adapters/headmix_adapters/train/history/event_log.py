"""A file that events are appended to, each step's at most once, however often the run is killed and resumed."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headmix_adapters.artifact.durable import sync_path, write_durably
from headmix_adapters.train.errors import TargetError
from headmix_adapters.train.history.events import (
    Checkpoint,
    Event,
    Scored,
    Started,
    Step,
    decode_events,
    encode_event,
)

_ONCE = (Started, Step, Scored, Checkpoint)


class EventLog:
    """Appends events to a file. A line is in the file once `write` returns, and survives a power failure after `sync`.

    Of the events that a resumed run meets again, those the file has already are skipped.
    """

    def __init__(self, path: Path, events: Iterable[Event]) -> None:
        self._written = dict.fromkeys(_ONCE, -1)
        for event in events:
            self._mark(event)
        self._file = path.open("ab")

    def write(self, event: Event) -> None:
        """Append an event, unless the file has it."""
        if self._mark(event):
            self._file.write(encode_event(event))
            self._file.flush()

    def sync(self) -> None:
        """Make what was written survive a power failure."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write nothing more."""
        self.sync()
        self._file.close()

    def _mark(self, event: Event) -> bool:
        """Remember the event; return whether it is new."""
        kind, step = type(event), getattr(event, "step", 0)
        if kind not in self._written:
            return True
        if step <= self._written[kind]:
            return False
        self._written[kind] = step
        return True


@contextmanager
def open_events(path: Path, *, resume: bool) -> Iterator[EventLog]:
    """Open the file of `--events`: to continue it if the run is resumed, otherwise empty.

    Raises:
        TargetError: the file holds something other than events, or cannot be written.
    """
    try:
        found = _events_in(path)
        if resume and path.exists():
            _cut_torn_line(path)
        else:
            write_durably(path, b"")
        log = EventLog(path, found if resume else ())
    except OSError as error:
        raise TargetError(f"--events: {path}: {error.strerror or error}") from error
    try:
        yield log
    finally:
        log.close()


def _events_in(path: Path) -> list[Event]:
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
        found = decode_events(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TargetError(f"--events: {path} holds something other than a run's events; name another file") from None
    if data and not found:
        raise TargetError(f"--events: {path} holds something other than a run's events; name another file")
    return found


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a crash cut short."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(data.rfind(b"\n") + 1)
    sync_path(path)
