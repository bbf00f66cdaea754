"""Consecutive tokens that represent single bytes, as decoders with byte fallback show them.

A run is shown as text if all of it is UTF-8; otherwise each of its bytes is U+FFFD. So a run's characters are held back
until the run ends or proves invalid, but no more than `LONGEST` bytes of them: a script that the vocabulary lacks
entirely must still stream. What was shown by then stays, even if the run proves invalid later.
"""

import codecs

REPLACEMENT = "\ufffd"
LONGEST = 16
_utf8 = codecs.getincrementaldecoder("utf-8")


class ByteRun:
    """One run after another: `push` its bytes, then `close` it. `before` begins the first one and is shown elsewhere.

    Its last `open_bytes` bytes begin a character but leave it incomplete, and are shown here.
    """

    def __init__(self, before: bytes = b"") -> None:
        self._decoder = _utf8("strict")
        self._held = ""  # complete characters
        self._broken = False
        try:
            self._decoder.decode(before)
        except UnicodeDecodeError:
            self._decoder.reset()
            self._broken = True
        self.open_bytes = len(self._decoder.getstate()[0])
        self._unshown = self.open_bytes

    def push(self, byte: int) -> str:
        """Add a byte; return the text that is now certain, possibly none."""
        if self._broken:
            return REPLACEMENT
        self._unshown += 1
        try:
            self._held += self._decoder.decode(bytes([byte]))
        except UnicodeDecodeError:
            self._broken = True
            return REPLACEMENT * self._unshown
        return self._show() if self._unshown >= LONGEST else ""

    def close(self) -> str:
        """End the run; return the part of its text that was not shown."""
        if self._broken:
            text = ""
        else:
            incomplete, _ = self._decoder.getstate()
            text = REPLACEMENT * self._unshown if incomplete else self._held
        self._decoder.reset()
        self._held, self._unshown, self._broken = "", 0, False
        return text

    def _show(self) -> str:
        text, self._held = self._held, ""
        self._unshown -= len(text.encode())
        return text
