"""Log lines for a person at a terminal: time, level if it matters, event, fields. Drops what only programs need.

Everything shown passes through `printable`: names, paths and messages may come from others.
"""

import re

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter, plain_traceback
from structlog.typing import EventDict, Processor

from headmix_adapters.printable import printable

_USUAL = (("outcome", "ok"), ("prompt_tokens", 0), ("generation_tokens", 0))
"""Fields of a request that carry no information if they have these values."""
_FOR_PROGRAMS = frozenset({"part", "process"})
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


def console_processors(*, colors: bool) -> tuple[Processor, ...]:
    """Return the last processors of a chain: from an event with its timestamp to a line of text."""
    return (structlog.processors.format_exc_info, _tidy, _renderer(colors=colors))


def _tidy(_: object, __: str, event: EventDict) -> EventDict:
    """Drop what tells a person nothing, and make printable what the renderer writes unchanged."""
    if event.get("level") == "info":
        del event["level"]
    if "exception" in event:
        event["exception"] = printable(event["exception"], lines=True)
    if event["event"] == "request":
        event = _request(event)
    return {
        name: value for name, value in event.items() if name not in _FOR_PROGRAMS and value is not None and value != ""
    }


def _request(event: EventDict) -> EventDict:
    """Move the request and its outcome to the front, and its id, for looking it up elsewhere, to the end."""
    asked = " ".join(str(event.pop(name, "")) for name in ("method", "route", "status"))
    request_id = event.pop("request_id", None)
    told = {name: value for name, value in event.items() if (name, value) not in _USUAL}
    return told | {"event": asked, "request_id": request_id}


def _renderer(*, colors: bool) -> ConsoleRenderer:
    styles = ConsoleRenderer.get_default_column_styles(colors=colors)
    level_styles = ConsoleRenderer.get_default_level_styles(colors=colors)

    def plain(style: str) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(key_style=None, value_style=style, reset_style=styles.reset, value_repr=_text)

    fields = KeyValueColumnFormatter(
        key_style=styles.kv_key, value_style="", reset_style=styles.reset, value_repr=_field_text
    )
    return ConsoleRenderer(
        exception_formatter=plain_traceback,
        sort_keys=False,
        columns=[
            Column("timestamp", plain(styles.timestamp)),
            Column("level", LogLevelColumnFormatter(level_styles, reset_style=styles.reset, width=0)),
            Column("event", plain(styles.bright)),
            Column("", fields),
        ],
    )


def _text(value: object) -> str:
    return _DIGEST.sub(r"\1", printable(str(value)))


def _field_text(value: object) -> str:
    text = _text(value)
    return f'"{text}"' if isinstance(value, str) and " " in text else text
