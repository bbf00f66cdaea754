"""Where a JSON object or list ends in a text that grows: brackets and quotation marks inside strings do not count.

It validates only what decides that; the caller parses the complete text.
"""

import re

_PLAIN = re.compile(r'[^"\\]*')
"""The inside of a string, up to its end or an escape."""

_OUTSIDE = re.compile(r"[-+.:,\s0-9A-Za-z]*")
"""Whatever may stand between brackets and strings."""

_OPENING, _CLOSING = "{[", "}]"


class NotJsonError(ValueError):
    """The text is not JSON, whatever follows; it could have been up to `place`."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


class JsonSpan:
    """Finds the end of the value that begins with the bracket at `start`; the text is given anew as it grows."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._place = start
        self._depth = 0
        self._in_string = False

    def end(self, text: str) -> int | None:
        """Return where the value ends, or None if the text does not reach that far.

        Raises:
            NotJsonError: it cannot become JSON.
        """
        while self._place < len(text):
            if self._in_string:
                self._place = _end_of(_PLAIN, text, self._place)
                if text.startswith("\\", self._place):
                    if self._place + 1 == len(text):
                        return None
                    self._place += 2
                elif self._place < len(text):
                    self._in_string = False
                    self._place += 1
            elif self._bracket(text):
                return self._place
        return None

    def _bracket(self, text: str) -> bool:
        """Go on to the next bracket or string and take it in; return whether the value ends there."""
        self._place = _end_of(_OUTSIDE, text, self._place)
        if self._place == len(text):
            return False
        character = text[self._place]
        if character == '"':
            self._in_string = True
        elif character in _OPENING:
            self._depth += 1
        elif character in _CLOSING:
            self._depth -= 1
        else:
            raise NotJsonError(f"{character!r} stands outside of a string", self._place)
        self._place += 1
        return self._depth == 0


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return place if found is None else found.end()
