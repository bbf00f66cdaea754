"""A file that events are appended to, each step's at most once, however often the run is killed and resumed.

A sweep's runs share a file: their events have their run's name, and each run's steps are counted by themselves.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from headmix_adapters.artifact.durable import sync_path, write_durably
from headmix_adapters.train.errors import TargetError
from headmix_adapters.train.history.events import (
    Checkpoint,
    Diverged,
    Done,
    Event,
    Scored,
    Started,
    Step,
    decode_events,
    encode_event,
)

_ONCE = (Started, Step, Scored, Checkpoint)
_ENDS = (Done, Diverged)
"""What a run of a sweep ends with, once as well; the last line of a process is written by each process."""


class EventLog:
    """Appends events to a file. A line is in the file once `write` returns, and survives a power failure after `sync`.

    Of the events that a resumed run meets again, those the file has already are skipped.
    """

    def __init__(self, path: Path, events: Iterable[Event]) -> None:
        self._written: dict[tuple[str, type[Event]], int] = {}
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
        if not isinstance(event, (*_ONCE, *_ENDS) if event.run else _ONCE):
            return True
        key, step = (event.run, type(event)), getattr(event, "step", 0)
        if step <= self._written.get(key, -1):
            return False
        self._written[key] = step
        return True


class RunEvents:
    """One run's part of a sweep's file."""

    def __init__(self, log: EventLog, run: str) -> None:
        self._log = log
        self._run = run

    def write(self, event: Event) -> None:
        """Append an event with the run's name, unless the file has it."""
        self._log.write(msgspec.structs.replace(event, run=self._run))

    def sync(self) -> None:
        """Make what was written survive a power failure."""
        self._log.sync()


EventStream: TypeAlias = EventLog | RunEvents


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
