"""Owns a batch's input file as `run-batch` reads it: checked as a whole before anything is sent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FAULTS = 20
_FIELDS = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True, slots=True)
class InputLine:
    """One request: `body` is what is sent to `url`."""

    custom_id: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of a check: how many requests there are, and the faults, each with its line."""

    total: int
    faults: tuple[str, ...]


def check_lines(file: Path) -> Checked:
    """Check every line of a file, up to `MOST_FAULTS` faults.

    Raises:
        OSError: the file cannot be read.
    """
    seen: dict[str, int] = {}
    faults: list[str] = []
    for number, text in _texts(file):
        fault = _fault(text, seen, number)
        if fault is not None:
            faults.append(f"line {number}: {fault}")
            if len(faults) >= MOST_FAULTS:
                break
    if not seen and not faults:
        faults.append("the file has no requests")
    return Checked(len(seen), tuple(faults))


def read_lines(file: Path) -> Iterator[InputLine]:
    """Yield the requests of a file that was checked."""
    for _, text in _texts(file):
        read = json.loads(text)
        yield InputLine(read["custom_id"], read["url"], json.dumps(read["body"]).encode())


def _texts(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as source:
        for number, text in enumerate(source, 1):
            stripped = (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip()
            if stripped:
                yield number, stripped


def _fault(text: bytes, seen: dict[str, int], number: int) -> str | None:
    """Return what is wrong with a line, or None; record its id."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(read, dict) or set(read) != _FIELDS:
        return "a request has exactly custom_id, method, url and body"
    name, url, body = read["custom_id"], read["url"], read["body"]
    if not isinstance(name, str) or not name:
        return "custom_id must be a text"
    if seen.setdefault(name, number) != number:
        return f"the custom_id is that of line {seen[name]} too"
    if read["method"] != "POST":
        return "method must be POST"
    if not isinstance(url, str) or not url.startswith("/v1/"):
        return "url must be a route, such as /v1/chat/completions"
    if not isinstance(body, dict):
        return "body must be a JSON object"
    return "a line cannot be streamed" if body.get("stream") else None
