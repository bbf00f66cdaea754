"""Reads the events that a trainer appends to a file, while it does."""

from pathlib import Path

from headmix_adapters.train.history.events import Event, decode_events


class EventTail:
    """Remembers how far the file has been read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """Return the events since the last call; a line that is still being written comes with the next."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return decode_events(whole)
