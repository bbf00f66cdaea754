"""A file in pieces is joined once, whole or not at all, and only if it is the file that is expected."""

import hashlib
import threading
from pathlib import Path

import pytest

from headmix_adapters.base import joined_file
from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.joined_file import join_files


def write_pieces(folder: Path) -> tuple[list[Path], bytes]:
    contents = [b"GGUF first", b"", b"second" * 1000]
    paths = [folder / f"piece{place}" for place in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths, b"".join(contents)


def test_the_pieces_become_one_file_in_their_order(tmp_path: Path) -> None:
    pieces, whole = write_pieces(tmp_path)
    out = tmp_path / "cache" / "model.gguf"
    assert join_files(pieces, out, hashlib.sha256(whole).hexdigest()) == out
    assert out.read_bytes() == whole


def test_a_joined_file_is_not_written_again(tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    out.write_bytes(b"joined before")
    assert join_files([tmp_path / "gone"], out, "any").read_bytes() == b"joined before"


@pytest.mark.parametrize("change", ["content", "order", "missing"])
def test_other_pieces_leave_no_file(tmp_path: Path, change: str) -> None:
    pieces, whole = write_pieces(tmp_path)
    if change == "content":
        pieces[2].write_bytes(b"tampered")
    given = {"content": pieces, "order": pieces[::-1], "missing": pieces[:2]}[change]
    out = tmp_path / "cache" / "model.gguf"
    with pytest.raises(BaseError, match=r"the pieces of model\.gguf are not those"):
        join_files(given, out, hashlib.sha256(whole).hexdigest())
    assert [path.suffix for path in out.parent.iterdir()] == [".lock"]


def test_of_two_at_once_one_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, started, release = [], threading.Event(), threading.Event()

    def slow(_: object, out: Path, __: str) -> None:
        joined.append(out)
        started.set()
        assert release.wait(30)
        out.write_bytes(b"whole")

    monkeypatch.setattr(joined_file, "_join", slow)
    out = tmp_path / "model.gguf"
    threads = [threading.Thread(target=join_files, args=([], out, "")) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(joined) == 1
