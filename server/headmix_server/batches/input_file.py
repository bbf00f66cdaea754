"""Reads a batch's input file: all of it is checked before anything runs, in bounded memory whatever it contains.

A fault is named with its line. Bodies are not understood here: each is checked when it runs, as over HTTP.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator
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
LONGEST_MODEL = 200
"""Characters of a model's name that is looked up before the lines run: no adapter has a longer one."""
LONGEST_ADAPTERS = 64 * 1024
"""Bytes of a body's `adapters`."""

PART_LINES = 1000
PART_BYTES = 8 << 20
"""What is checked without a break."""

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
    adapters: msgspec.Raw = msgspec.Raw(b"null")


_LINE = msgspec.json.Decoder(InputLine)
_BODY = msgspec.json.Decoder(_Body)
_ADAPTERS = msgspec.json.Decoder(list[_Named] | None)


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
    checked = Checked()
    for _ in check_in_parts(file, endpoint, bounds, checked):
        pass
    return checked


def check_in_parts(file: BinaryIO, endpoint: str, bounds: Bounds, checked: Checked) -> Iterator[None]:
    """Check as `check_file`, with a break after each part; `checked` is complete once there is none left."""
    ids = dict[bytes, int]()
    since_lines = since_bytes = blank = 0
    for number, text in _texts(file, bounds):
        blank += text == b""
        fault = _bound_passed(number, text, checked.total + 1, blank, bounds)
        if fault is not None:
            checked.faults.append(fault)
            return
        if text:
            checked.total += 1
            fault = _check(number, text, endpoint, ids, checked.models)
        if fault is not None:
            checked.faults.append(fault)
            if len(checked.faults) >= MOST_FAULTS:
                return
        since_lines, since_bytes = since_lines + 1, since_bytes + len(text or b"")
        if since_lines >= PART_LINES or since_bytes >= PART_BYTES:
            since_lines = since_bytes = 0
            yield
    if not checked.total:
        checked.faults.append(Fault(code="empty_file", message="The file has no requests."))


def _bound_passed(number: int, text: bytes | None, requests: int, blank: int, bounds: Bounds) -> Fault | None:
    """Return the fault of a line that is too long, or one too many of its kind; reading ends with it."""
    if text is None:
        message = f"The line is longer than {bounds.line_bytes} bytes."
        return Fault(code="line_too_long", message=message, line=number)
    if text and requests > bounds.lines:
        message = f"The file has more than {bounds.lines} requests."
        return Fault(code="too_many_lines", message=message, line=number)
    if blank > bounds.lines:
        message = f"The file has more than {bounds.lines} blank lines."
        return Fault(code="too_many_lines", message=message, line=number)
    return None


def read_lines(file: BinaryIO, bounds: Bounds, *, skipped: Container[int] = ()) -> Iterator[Line]:
    """Yield the lines of a file that was checked, except those with the numbers `skipped`."""
    for number, text in _texts(file, bounds):
        if text is None:
            raise ValueError(f"line {number} of a checked file is too long")
        if text and number not in skipped:
            read = _LINE.decode(text)
            yield Line(number, read.custom_id, bytes(read.body))


def _texts(file: BinaryIO, bounds: Bounds) -> Iterator[tuple[int, bytes | None]]:
    """Yield all lines with their numbers, blank ones empty; None for one that is too long, after which it ends."""
    number = 0
    while text := file.readline(bounds.line_bytes + 1):
        number += 1
        if len(text) > bounds.line_bytes and not text.endswith(b"\n"):
            yield number, None
            return
        yield number, (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip()


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
        if len(read.adapters) > LONGEST_ADAPTERS:
            return fault("invalid_body", f"adapters is longer than {LONGEST_ADAPTERS} bytes.", "body.adapters")
        names = _names(read.model, _ADAPTERS.decode(read.adapters) or ())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # it is refused when it runs, as over HTTP
    if read.stream:
        return fault("unsupported_parameter", "A line of a batch cannot be streamed.", "body.stream")
    models.update(dict.fromkeys(names))
    if len(models) > MOST_MODELS:
        return fault("too_many_models", f"A batch names at most {MOST_MODELS} different models.", "body.model")
    return None


def _names(model: str | None, adapters: Iterable[_Named]) -> list[str]:
    """Return the names that a batch resolves; others are no adapter's, and refused when their lines run."""
    named = (model, *(one.name for one in adapters))
    return [name for name in named if name and len(name) <= LONGEST_MODEL and name.isascii() and name.isprintable()]


def _plain(error: Exception) -> str:
    """Return an error's text as part of a sentence, without any of the client's text."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def _field(error: Exception) -> str | None:
    """Return the field that an error names."""
    return next((name for name in InputLine.__struct_fields__ if f"`$.{name}`" in str(error)), None)
