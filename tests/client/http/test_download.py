"""A download is complete and correct, or there is no file."""

from pathlib import Path

import pytest

from headmix.errors import DigestMismatchError
from headmix.http.download import FileSink, digest_of

CONTENT = b"first" + b"second"


def write(path: Path, digest: str | None, *blocks: bytes) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    with FileSink(path, 11, digest, lambda done, total: seen.append((done, total))) as sink:
        for block in blocks:
            sink.write(block)
            sink.report()
    return seen


def test_the_file_appears_whole_with_progress(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert write(path, digest_of(CONTENT), b"first", b"second") == [(5, 11), (11, 11)]
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_bytes_leave_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(DigestMismatchError, match="announced sha256:00"):
        write(path, "sha256:00", b"first")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def fail(done: int, total: int | None) -> None:
    raise RuntimeError(f"broke off after {done} of {total}")


def test_a_broken_download_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a", 11, None, fail)
    with pytest.raises(RuntimeError, match="broke off after 5"):
        write_one(sink)
    assert list(tmp_path.iterdir()) == []


def write_one(sink: FileSink) -> None:
    with sink:
        sink.write(b"first")
        sink.report()
