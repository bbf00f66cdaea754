"""Owns decoding a server-sent event stream: bytes in, events out. Does no I/O and does not interpret events."""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One dispatched event; `data` joins the event's data lines with newlines."""

    data: str
    event: str = "message"
    id: str | None = None


class SSEDecoder:
    """Decodes a stream fed in blocks of any size; the events do not depend on how the blocks were split.

    Follows the WHATWG rules: lines end in CRLF, LF or CR; comments (`:`) are dropped; an event without data is not
    dispatched; an event is discarded if the stream ends in the middle of it. Lines are decoded whole, so a character
    split across two blocks survives.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at_start = True
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, block: bytes) -> list[ServerSentEvent]:
        """Return the events that this block completes, in order."""
        self._buffer += block
        if not self._begin():
            return []
        events: list[ServerSentEvent] = []
        position = 0
        # A CR ends its line at once, so that an event is never delayed waiting for a possible LF.
        if self._after_cr and self._buffer:
            position = 1 if self._buffer[0] == ord("\n") else 0
            self._after_cr = False
        while match := _LINE_END.search(self._buffer, position):
            line = self._buffer[position : match.start()].decode("utf-8", errors="replace")
            position = match.end()
            self._after_cr = match[0] == b"\r" and position == len(self._buffer)
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        del self._buffer[:position]
        return events

    def _begin(self) -> bool:
        """Drop a leading byte order mark; return False while too little has arrived to decide."""
        if self._at_start:
            if len(self._buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(self._buffer):
                return False
            self._at_start = False
            if self._buffer.startswith(_BYTE_ORDER_MARK):
                del self._buffer[: len(_BYTE_ORDER_MARK)]
        return True

    def _take_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, self._data = self._data, []
        event, self._event = self._event, ""
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self._id)
