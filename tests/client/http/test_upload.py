"""The streamed multipart body."""

import email.parser
import email.policy
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix.errors import InvalidArgumentError
from headmix.http.upload import BLOCK_SIZE, Source, Upload


def fields_of(upload: Upload, body: bytes) -> dict[str, bytes]:
    """The parts of a body, read by an independent parser."""
    head = f"Content-Type: {upload.headers()['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    parts = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(content, bytes)
        parts[name] = content
    return parts


@given(st.binary(max_size=200), st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=10))
def test_the_body_holds_the_fields_and_the_file_and_is_as_long_as_announced(content: bytes, name: str) -> None:
    upload = Upload({"name": name}, Source.of(content))
    body = b"".join(upload.blocks())
    assert len(body) == int(upload.headers()["Content-Length"])
    head, _, rest = body.partition(b'name="file"')
    assert head.count(name.encode()) >= 1
    assert rest.split(b"\r\n\r\n", 1)[1].removesuffix(f"\r\n--{upload.boundary}--\r\n".encode()) == content


def test_another_parser_reads_the_same_parts() -> None:
    upload = Upload({"name": "tone", "allow_base_mismatch": "true"}, Source.of(b"line\r\nline\x00\xff"))
    parts = fields_of(upload, b"".join(upload.blocks()))
    assert parts == {"name": b"tone", "allow_base_mismatch": b"true", "file": b"line\r\nline\x00\xff"}


def test_every_kind_of_source_gives_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"content")
    opened = io.BytesIO(b"skipped content")
    opened.seek(8)
    bodies = {
        b"".join(Upload({}, Source.of(source), boundary="b").blocks())
        for source in (path, str(path), b"content", opened)
    }
    assert len(bodies) == 1
    assert not opened.closed


def test_a_second_attempt_sends_the_same_body() -> None:
    upload = Upload({"name": "tone"}, Source.of(io.BytesIO(b"content")))
    assert list(upload.blocks()) == list(upload.blocks())


async def test_the_async_body_is_the_same_and_reports_on_the_loop() -> None:
    content = os.urandom(BLOCK_SIZE + 1)
    seen: list[tuple[int, int | None]] = []
    upload = Upload({"name": "tone"}, Source.of(content), lambda done, total: seen.append((done, total)))
    body = b"".join([block async for block in upload.ablocks()])
    assert seen == [(BLOCK_SIZE, BLOCK_SIZE + 1), (BLOCK_SIZE + 1, BLOCK_SIZE + 1)]
    assert body == b"".join(upload.blocks())


def test_progress_counts_the_files_bytes_only() -> None:
    seen: list[tuple[int, int | None]] = []
    upload = Upload({"name": "x" * 500}, Source.of(b"1234"), lambda done, total: seen.append((done, total)))
    list(upload.blocks())
    assert seen == [(4, 4)]


def test_memory_stays_flat_whatever_the_files_size(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * BLOCK_SIZE)
    upload = Upload({"name": "large"}, Source.of(path))
    tracemalloc.start()
    sent = sum(len(block) for block in upload.blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sent > 64 * BLOCK_SIZE
    assert peak < 4 * BLOCK_SIZE


def test_a_pipe_is_refused_and_a_missing_file_named() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, pytest.raises(InvalidArgumentError, match="seekable"):
        Source.of(pipe)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Source.of("nowhere.safetensors")
