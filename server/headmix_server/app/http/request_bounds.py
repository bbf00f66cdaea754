"""Limits the bytes and headers of a request besides its body, counted while it is parsed.

The parser reports a header only once it is complete, so received bytes are counted too. A chunked body has bytes
between its chunks and trailers after them, which the parser drops or collects without reporting them.
"""

from dataclasses import dataclass

BODY_TO_OVERHEAD = 2
"""Bytes of a chunked body per byte of framing beyond the header limit: each chunk costs work."""


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """The maximum bytes and number of a request's headers, including the request line."""

    size: int
    count: int


class TooLargeError(Exception):
    """A request exceeds the limits."""


class RequestBounds:
    """Counts the request that is arriving on one connection."""

    def __init__(self, limits: HeaderLimits) -> None:
        self._limits = limits
        self.in_headers = False  # from the first byte of a request to the end of its headers
        self.in_body = False  # from there to the end of the request
        self._size = self._count = 0
        self._unparsed = 0
        self._body = self._overhead = 0
        self._begun = 0
        self._before = (False, False, 0)

    def begin(self) -> None:
        """Start a request."""
        self.in_headers = True
        self._begun += 1
        self._size = self._count = 0

    def add_header(self, size: int, count: int) -> None:
        """Count a header or a part of the request line.

        Raises:
            TooLargeError: the limit is exceeded.
        """
        self._size += size
        self._count += count
        if self._size > self._limits.size or self._count > self._limits.count:
            raise TooLargeError

    def end_headers(self) -> None:
        """End the headers; a body may follow."""
        self.in_headers, self.in_body = False, True
        self._body = self._overhead = 0

    def add_body(self, size: int) -> None:
        """Count bytes of the body."""
        self._body += size

    def end(self) -> None:
        """End the request."""
        self.in_body = False

    def before_feed(self) -> None:
        """Prepare for a call of the parser; call this before it."""
        self._begun = 0
        self._before = (self.in_headers, self.in_body, self._body)

    def after_feed(self, size: int) -> None:
        """Count what the parser received but did not report.

        Raises:
            TooLargeError: the limit is exceeded.
        """
        was_in_headers, was_in_body, body = self._before
        if self.in_headers:
            if not self._begun:
                self._unparsed += size
            else:  # if the feed also ended another request, this one's part of it is unknown
                self._unparsed = 0 if was_in_headers or was_in_body or self._begun > 1 else size
            if self._unparsed > self._limits.size:
                raise TooLargeError
        elif self.in_body and was_in_body and not self._begun:
            self._overhead += size - (self._body - body)
            if self._overhead > self._limits.size + self._body // BODY_TO_OVERHEAD:
                raise TooLargeError
