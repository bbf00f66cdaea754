import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headmix_server.api.uploads.multipart import MAX_FIELD_BYTES, FormFields, UploadForm
from headmix_server.core.errors import InvalidRequest, UnsupportedParameter

KNOWN = frozenset({"name"})
TYPE = "multipart/form-data; boundary=b"


def part(name: str, content: bytes, more: bytes = b"") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + more + b"\r\n\r\n" + content + b"\r\n"
    )


def parse(body: bytes, cuts: list[int]) -> tuple[dict[str, str], bytes]:
    """Feed the body in pieces and return the fields and the file."""
    file = bytearray()
    form = UploadForm(TYPE, FormFields(KNOWN), file.extend)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(places):
        form.feed(body[start:end])
    form.finish()
    return form.fields, bytes(file)


@settings(deadline=None)
@given(
    content=st.binary(max_size=200) | st.just(b"\r\n--b") | st.just(b"\r\n--"),
    name=st.text(alphabet="abc é", max_size=20),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    file_first=st.booleans(),
)
def test_the_file_arrives_byte_for_byte_however_the_body_is_cut(
    content: bytes, name: str, cuts: list[int], file_first: bool
) -> None:
    if b"\r\n--b" in content:
        content = content.replace(b"\r\n--b", b"\r\n-b")
    parts = [part("name", name.encode()), part("file", content, b'; filename="x"\r\nContent-Type: a/b')]
    body = b"".join(reversed(parts) if file_first else parts) + b"--b--\r\n"
    assert parse(body, cuts) == ({"name": name}, content)


@settings(deadline=None)
@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_no_bytes_cause_more_than_a_bad_request(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        parse(b"--b\r\n" + body.replace(b"file", b"elif"), cuts)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (part("name", b"a") + b"--b--\r\n", InvalidRequest, "file is missing"),
        (part("file", b"a"), InvalidRequest, "ends early"),
        (part("file", b"a") + part("file", b"b") + b"--b--\r\n", InvalidRequest, "twice"),
        (part("name", b"a") + part("name", b"b"), InvalidRequest, "twice"),
        (part("path", b"a"), UnsupportedParameter, "'path' is not supported"),
        (part("name", b"a" * (MAX_FIELD_BYTES + 1)), InvalidRequest, "too long"),
        (b"--b\r\nX: " + b"a" * (MAX_FIELD_BYTES + 1), InvalidRequest, "header"),
        (b"no boundary", InvalidRequest, "not well-formed"),
    ],
)
def test_each_fault_is_reported(body: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse(body, [])


@pytest.mark.parametrize("length", [256, 257, 60_000])
def test_a_boundary_longer_than_a_parser_takes_is_a_bad_request(length: int) -> None:
    def make() -> UploadForm:
        return UploadForm(f"multipart/form-data; boundary={'b' * length}", FormFields(KNOWN), lambda _: None)

    if length <= 256:
        make()
        return
    with pytest.raises(InvalidRequest, match="boundary is longer than 256 bytes"):
        make()


@settings(deadline=None)
@given(
    before=st.sampled_from(["", "multipart/form-data; ", "multipart/form-data; boundary="]),
    content_type=st.text(st.characters(max_codepoint=255), max_size=80),
)
def test_no_content_type_causes_more_than_a_bad_request(before: str, content_type: str) -> None:
    with contextlib.suppress(InvalidRequest):
        UploadForm(before + content_type, FormFields(KNOWN), lambda _: None)


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=b"])
def test_only_a_form_with_a_boundary_is_an_upload(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        UploadForm(content_type, FormFields(KNOWN), lambda _: None)
