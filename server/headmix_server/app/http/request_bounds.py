"""How many bytes and headers one request may have besides its body; counted while it is parsed.

The parser tells of a header only once it has all of it, so what has arrived is counted too. A chunked body has bytes
between its chunks and trailers after them, which the parser drops or gathers without telling anybody.
"""

from dataclasses import dataclass

BODY_TO_OVERHEAD = 2
"""Bytes of a chunked body for each byte around its chunks, beyond as many as headers may have: each chunk is work."""


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """The most that a request's line and headers may have."""

    size: int
    count: int


class TooLargeError(Exception):
    """A request goes beyond the limits."""


class RequestBounds:
    """Counts the request that is arriving on one connection."""

    def __init__(self, limits: HeaderLimits) -> None:
        self._limits = limits
        self.in_headers = False  # from a request's first byte to the end of its headers
        self.in_body = False  # from there to the request's end
        self._size = self._count = 0
        self._unparsed = 0
        self._body = self._overhead = 0
        self._begun = 0
        self._before = (False, False, 0)

    def begin(self) -> None:
        """A request begins."""
        self.in_headers = True
        self._begun += 1
        self._size = self._count = 0

    def add_header(self, size: int, count: int) -> None:
        """Count a header or a part of the request's line.

        Raises:
            TooLargeError: there are too many.
        """
        self._size += size
        self._count += count
        if self._size > self._limits.size or self._count > self._limits.count:
            raise TooLargeError

    def end_headers(self) -> None:
        """The headers are complete; a body may follow."""
        self.in_headers, self.in_body = False, True
        self._body = self._overhead = 0

    def add_body(self, size: int) -> None:
        """Count bytes of the body."""
        self._body += size

    def end(self) -> None:
        """The request is complete."""
        self.in_body = False

    def before_feed(self) -> None:
        """Call this before the parser is given what has arrived."""
        self._begun = 0
        self._before = (self.in_headers, self.in_body, self._body)

    def after_feed(self, size: int) -> None:
        """Count what the parser was given and keeps to itself.

        Raises:
            TooLargeError: it is too much.
        """
        was_in_headers, was_in_body, body = self._before
        if self.in_headers:
            if not self._begun:
                self._unparsed += size
            else:  # of a feed that ended another request, nobody knows how much belongs to this one
                self._unparsed = 0 if was_in_headers or was_in_body or self._begun > 1 else size
            if self._unparsed > self._limits.size:
                raise TooLargeError
        elif self.in_body and was_in_body and not self._begun:
            self._overhead += size - (self._body - body)
            if self._overhead > self._limits.size + self._body // BODY_TO_OVERHEAD:
                raise TooLargeError
