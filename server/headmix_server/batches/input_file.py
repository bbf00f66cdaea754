"""Reads a batch's input file: all of it is checked before anything runs, in bounded memory whatever it contains.

A fault is named with its line. Bodies are not understood here: each is checked when it runs, as over HTTP.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

import msgspec

from headmix_server.batches.line import InputLine, Line
from headmix_server.core.types import Frozen

MOST_FAULTS = 50
"""Faults that are reported; reading ends at the last of them."""

LONGEST_ID = 512
MOST_MODELS = 1000
"""Different models of one batch: their versions are held while it runs."""

_MIB = 1024 * 1024
_AROUND_BODY = 16 * 1024
"""Bytes of a line beside its body."""


class Fault(Frozen, frozen=True):
    """What is wrong with a file, in OpenAI's shape: `line` is None for the file as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class _Named(Frozen, frozen=True):
    name: str | None = None


class _Body(Frozen, frozen=True):
    """The part of a body that concerns the batch."""

    model: str | None = None
    stream: bool | None = None
    adapters: list[_Named] | None = None


_LINE = msgspec.json.Decoder(InputLine)
_BODY = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most lines of a file, and the most MiB of a line's body."""

    lines: int
    body_mib: int

    @property
    def line_bytes(self) -> int:
        """The most bytes of a line."""
        return self.body_mib * _MIB + _AROUND_BODY


@dataclass(slots=True)
class Checked:
    """The outcome of a check: how many requests there are, the models they name, and the faults, if any."""

    total: int = 0
    models: dict[str, None] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def check_file(file: BinaryIO, endpoint: str, bounds: Bounds) -> Checked:
    """Check every line of a file, up to `MOST_FAULTS` faults."""
    checked, ids = Checked(), dict[bytes, int]()
    for number, text in _texts(file, bounds):
        if text is None:
            message = f"The line is longer than {bounds.line_bytes} bytes."
            checked.faults.append(Fault(code="line_too_long", message=message, line=number))
            return checked
        checked.total += 1
        if checked.total > bounds.lines:
            message = f"The file has more than {bounds.lines} requests."
            checked.faults.append(Fault(code="too_many_lines", message=message, line=number))
            return checked
        fault = _check(number, text, endpoint, ids, checked.models)
        if fault is not None:
            checked.faults.append(fault)
            if len(checked.faults) >= MOST_FAULTS:
                return checked
    if not checked.total:
        checked.faults.append(Fault(code="empty_file", message="The file has no requests."))
    return checked


def read_lines(file: BinaryIO, bounds: Bounds) -> Iterator[Line]:
    """Yield the lines of a file that was checked."""
    for number, text in _texts(file, bounds):
        if text is None:
            raise ValueError(f"line {number} of a checked file is too long")
        read = _LINE.decode(text)
        yield Line(number, read.custom_id, bytes(read.body))


def _texts(file: BinaryIO, bounds: Bounds) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that are not blank, with their numbers; None for one that is too long, after which it ends."""
    number = 0
    while text := file.readline(bounds.line_bytes + 1):
        number += 1
        if len(text) > bounds.line_bytes and not text.endswith(b"\n"):
            yield number, None
            return
        text = (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip()
        if text:
            yield number, text


def _check(number: int, text: bytes, endpoint: str, ids: dict[bytes, int], models: dict[str, None]) -> Fault | None:
    """Return what is wrong with a line, or None; record its id and the models it names."""

    def fault(code: str, message: str, param: str | None = None) -> Fault:
        return Fault(code=code, message=message, param=param, line=number)

    try:
        read = _LINE.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return fault("invalid_json_line", f"The line is not a request: {_plain(error)}.", _field(error))
    if not 0 < len(read.custom_id) <= LONGEST_ID:
        return fault("invalid_custom_id", f"custom_id has 1 to {LONGEST_ID} characters.", "custom_id")
    digest = hashlib.blake2b(read.custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
    if (first := ids.setdefault(digest, number)) != number:
        return fault("duplicate_custom_id", f"The custom_id is that of line {first} too.", "custom_id")
    if read.method != "POST":
        return fault("invalid_method", "method must be POST.", "method")
    if read.url != endpoint:
        return fault("mismatched_url", f"url must be the batch's endpoint, {endpoint}.", "url")
    return _check_body(fault, bytes(read.body), models)


class _Report(Protocol):
    """Returns a fault of the current line."""

    def __call__(self, code: str, message: str, param: str | None = None) -> Fault: ...


def _check_body(fault: _Report, body: bytes, models: dict[str, None]) -> Fault | None:
    if not body.startswith(b"{"):
        return fault("invalid_body", "body must be a JSON object.", "body")
    try:
        read = _BODY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # it is refused when it runs, as over HTTP
    if read.stream:
        return fault("unsupported_parameter", "A line of a batch cannot be streamed.", "body.stream")
    models.update(dict.fromkeys(_names(read)))
    if len(models) > MOST_MODELS:
        return fault("too_many_models", f"A batch names at most {MOST_MODELS} different models.", "body.model")
    return None


def _names(body: _Body) -> Iterable[str]:
    named = (body.model, *(one.name for one in body.adapters or ()))
    return [name for name in named if name]


def _plain(error: Exception) -> str:
    """Return an error's text as part of a sentence, without any of the client's text."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def _field(error: Exception) -> str | None:
    """Return the field that an error names."""
    return next((name for name in InputLine.__struct_fields__ if f"`$.{name}`" in str(error)), None)
