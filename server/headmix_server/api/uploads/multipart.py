"""The multipart body of an upload, written to the store as it arrives: memory stays flat, bytes are written once.

Owns the form of the body: text fields, and one part that is a file. The content of the file is verified elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from headmix_server.api.middleware.error_responses import ClientGone
from headmix_server.api.threads import Threads
from headmix_server.core.errors import InvalidRequest, UnsupportedParameter

MAX_FIELD_BYTES = 4096
MAX_BOUNDARY_BYTES = 256
"""The longest boundary that the parser accepts; RFC 2046 allows 70."""
LONG_FIELDS: Mapping[str, int] = MappingProxyType({"config": 64 * 1024})
"""Text fields that contain a document rather than a word, with their maximum bytes."""

Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class FormFields:
    """What a form may have: the `known` text fields, and the file in the field `file`, which must be there.

    `content` is what the file is, in messages.
    """

    known: frozenset[str]
    file: str = "file"
    content: str = "the file"


class UploadForm:
    """Parses one body. `fields` holds the text fields; `has_file` is true once the file has begun.

    `filename` is the name that came with the file, or empty.
    """

    def __init__(self, content_type: str, form: FormFields, sink: Sink) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest(f"Send {form.content} as multipart/form-data with the field {form.file}.")
        if len(options[b"boundary"]) > MAX_BOUNDARY_BYTES:
            raise InvalidRequest(f"The multipart boundary is longer than {MAX_BOUNDARY_BYTES} bytes.")
        self.fields: dict[str, str] = {}
        self.has_file = False
        self.filename = ""
        self._complete = False
        self._form = form
        self._sink = sink
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            InvalidRequest: the body is malformed, or a field is unknown, repeated or too long.
            HeadmixServerError: what the sink raises.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"The multipart body is not well-formed: {error}") from error

    def finish(self) -> None:
        """Check that the body was complete.

        Raises:
            InvalidRequest: it ended early, or the file is missing.
        """
        if not self._complete:
            raise InvalidRequest("The multipart body ends early.")
        if not self.has_file:
            raise InvalidRequest(f"The field {self._form.file} is missing.", param=self._form.file)

    def _begin_part(self) -> None:
        self._disposition = b""
        self._text = bytearray()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name = _bounded(self._header_name + data[start:end])

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value = _bounded(self._header_value + data[start:end])

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        is_file = self._name == self._form.file
        if not is_file and self._name not in self._form.known:
            raise UnsupportedParameter(f"The field {self._name[:64]!r} is not supported.", param=self._name[:64])
        if self._name in self.fields or (is_file and self.has_file):
            raise InvalidRequest(f"The field {self._name} is given twice.", param=self._name)
        if is_file:
            self.has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._form.file:
            self._sink(data[start:end])
        elif len(self._text) + end - start > LONG_FIELDS.get(self._name, MAX_FIELD_BYTES):
            raise InvalidRequest(f"The field {self._name} is too long.", param=self._name)
        else:
            self._text += data[start:end]

    def _end_part(self) -> None:
        if self._name != self._form.file:
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self._complete = True


def _bounded(header: bytes) -> bytes:
    if len(header) > MAX_FIELD_BYTES:
        raise InvalidRequest("A header of the multipart body is too long.")
    return header


async def receive_form(request: Request, form: FormFields, sink: Sink, threads: Threads) -> UploadForm:
    """Read the request's body, pass the file's bytes to `sink` in threads, and return the complete form.

    Raises:
        ClientGone: the client disconnected before the end.
        HeadmixServerError: as `UploadForm.feed` and `finish`.
    """
    arriving = UploadForm(request.headers.get("content-type", ""), form, sink)
    try:
        async for block in request.stream():
            if block:
                await threads.receive(arriving.feed, block)
    except ClientDisconnect as error:
        raise ClientGone from error
    arriving.finish()
    return arriving
