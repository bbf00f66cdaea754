"""Target `multipart`: an upload's body in any pieces. The split makes no difference, and no bytes cause a 500.

An input is a line of JSON (the content type, and where the body is split) and the body.
"""

from itertools import pairwise
from typing import NamedTuple

import msgspec
from hypothesis import strategies as st

from harness.fuzz.targets.target import Target, kind_of
from headmix_server.api.uploads.multipart import MAX_FIELD_BYTES, FormFields, UploadForm
from headmix_server.core.errors import HeadmixServerError

KNOWN = frozenset({"name", "config", "current"})
NAMES = ("name", "config", "current", "file", "filé", "", "path", "a" * 70)


class _Head(msgspec.Struct, frozen=True):
    type: str
    cuts: list[int]


class _Outcome(NamedTuple):
    """`error` is the error's class and status; if there is none, the fields and the file."""

    error: str
    fields: dict[str, str]
    file: bytes


def check(data: bytes) -> str:
    """Parse the body whole and in pieces."""
    line, _, body = data.partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    places = [0, *sorted(cut % (len(body) + 1) for cut in head.cuts), len(body)]
    whole = _parse(head.type, [body])
    cut = _parse(head.type, [body[start:end] for start, end in pairwise(places)])
    if whole.error:
        # Which of two faults in a body is found first depends on the pieces; that it is refused does not.
        assert cut.error, f"refused whole ({whole.error}) and accepted in pieces"
        return whole.error
    assert cut == whole, f"in pieces {cut}, whole {whole}"
    return f"accepted {sorted(whole.fields)}"


def _parse(content_type: str, pieces: list[bytes]) -> _Outcome:
    file = bytearray()
    try:
        form = UploadForm(content_type, FormFields(KNOWN), file.extend)
        for piece in pieces:
            form.feed(piece)
        form.finish()
    except HeadmixServerError as error:
        return _Outcome(_refusal(error), {}, b"")
    assert len(file) <= sum(map(len, pieces))
    return _Outcome("", dict(form.fields), bytes(file))


def _refusal(error: HeadmixServerError) -> str:
    assert 400 <= error.status < 500, error
    assert len(error.message) < 1000, "a refusal is a sentence"
    return f"refused: {kind_of(error.message)}"


def _write(head: _Head, body: bytes) -> bytes:
    return msgspec.json.encode(head) + b"\n" + body


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    """Draw a nearly valid body: parts with their headers, in any order, some of them damaged."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(NAMES))
        disposition = draw(
            st.sampled_from(
                [
                    f'Content-Disposition: form-data; name="{name}"',
                    f'content-disposition:form-data;name={name}; filename="a\\"b"',
                    f"Content-Disposition: form-data; name*=utf-8''{name}",
                    "Content-Disposition: attachment",
                    f"X: {'y' * draw(st.sampled_from([0, MAX_FIELD_BYTES - 3, MAX_FIELD_BYTES + 1]))}",
                    "Content-Type: text/plain; charset=utf-16",
                    "",
                ]
            )
        )
        more = draw(
            st.sampled_from(["", "Content-Type: a/b\r\n", "Content-Transfer-Encoding: base64\r\n", ": \r\n", "\n"])
        )
        content = draw(st.binary(max_size=40) | st.sampled_from([b"", b"\r\n--b", b"\r\n", b"--b--", b"n" * 5000]))
        parts.append(b"--b\r\n" + f"{disposition}\r\n{more}\r\n".encode() + content + b"\r\n")
    end = draw(st.sampled_from([b"--b--\r\n", b"--b--", b"--b\r\n", b"", b"--b--\r\nepilogue", b"--c--\r\n"]))
    preamble = draw(st.sampled_from([b"", b"preamble\r\n", b"\r\n"]))
    return preamble + b"".join(parts) + end


_TYPES = st.sampled_from(
    [
        *["multipart/form-data; boundary=b"] * 6,
        'multipart/form-data; boundary="b"; charset=utf-8',
        "multipart/form-data; boundary=",
        "multipart/form-data",
        f"multipart/form-data; boundary={'b' * 257}",
        "multipart/mixed; boundary=b",
        "application/json",
        "",
        "multipart/form-data; boundary=é",
    ]
) | st.text(st.characters(max_codepoint=255), max_size=40)  # headers are read as Latin-1
_HEADS = st.builds(_Head, _TYPES, st.lists(st.integers(0, 6000), max_size=6))
TARGET = Target(st.builds(_write, _HEADS, _bodies() | _bodies() | st.binary(max_size=200)), check)
