"""Log lines on standard error: JSON, one event per line, or readable lines if a person is likely to read them.

Prompts, completions and keys are never logged; callers pass identifiers and counts only.
"""

import logging
import os
import sys
from contextlib import suppress
from io import TextIOBase
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from headmix_server.core.observability.log_console import console_processors

LogFormat = Literal["auto", "console", "json"]


def configure_logging(level: str, process: str, log_format: LogFormat = "json") -> None:
    """Send every log line of this process and its libraries to stderr; `process` is its name in JSON.

    Libraries log from level warning up, and everything at level `debug`.
    """
    stream = LogStream()
    for_people = shows_console(log_format)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
        _add_process(process),
    ]
    last: tuple[Processor, ...] = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    if for_people:
        last = console_processors(colors=stream.isatty() and not os.environ.get("NO_COLOR"))
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        level=least if least <= logging.DEBUG else max(least, logging.WARNING), handlers=[handler], force=True
    )
    logging.getLogger("headmix_adapters").setLevel(least)


def quiet_logging() -> None:
    """Let only this package's warnings and errors reach stderr, for programs that use it as a library.

    A program that has configured structlog keeps its own configuration.
    """
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger("warning"),
            logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", LogStream())),
        )


def shows_console(log_format: LogFormat) -> bool:
    """Return whether lines are for people: as set, and for `auto` if stderr is a terminal."""
    return log_format == "console" or (log_format == "auto" and LogStream().isatty())


def _add_process(name: str) -> Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = name
        return event

    return add


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of one part, for example `engine`."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=name))


class LogStream(TextIOBase):
    """Standard error, looked up anew for every line, so that a progress bar that replaces it gets the lines.

    A closed terminal, a pipe that nobody reads or a full disk loses the line, but the request that logged it goes on.
    """

    def write(self, text: str) -> int:
        """Write the text if possible."""
        with suppress(OSError, ValueError):  # ValueError: the stream was closed
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Return whether a person is likely to read the lines."""
        with suppress(ValueError):
            return sys.stderr.isatty()
        return False
