"""Standard error as the log writes to it: looked up anew for every line, and never a reason to fail.

A terminal that was closed, a pipe nobody reads and a full disk cost the line, not the request that logged it.
"""

import sys
from contextlib import suppress
from io import TextIOBase


class LogStream(TextIOBase):
    """A text stream over `sys.stderr`; whatever stands in for it meanwhile (a progress bar does) gets the lines."""

    def write(self, text: str) -> int:
        """Write the text where that is possible."""
        with suppress(OSError, ValueError):  # ValueError: the stream was closed
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush where that is possible."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether a person is likely to read along."""
        with suppress(ValueError):
            return sys.stderr.isatty()
        return False
