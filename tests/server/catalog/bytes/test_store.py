import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.records import digest_of
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.core.errors import InsufficientStorage, PayloadTooLarge


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def put(store: ArtifactStore, content: bytes) -> str:
    with store.receive(max_bytes=1000) as upload:
        upload.write(content)
        store.commit(upload)
        return upload.digest


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@given(st.lists(st.binary(max_size=50)))
def test_an_artifact_is_the_bytes_in_their_order_under_their_digest(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    root = tmp_path_factory.mktemp("artifacts")
    store = ArtifactStore(root)
    with store.receive(max_bytes=10_000) as upload:
        for chunk in chunks:
            upload.write(chunk)
        path = store.commit(upload)
        content = b"".join(chunks)
        assert upload.digest == digest_of(content)
        assert upload.size_bytes == len(content)
    assert path == store.path(digest_of(content))
    assert path.read_bytes() == content
    digits = digest_of(content).removeprefix("sha256:")
    assert files(root) == {f"sha256/{digits[:2]}/{digits}.safetensors"}


def test_an_upload_can_be_read_before_it_is_committed_and_is_gone_if_it_is_not(
    store: ArtifactStore, tmp_path: Path
) -> None:
    with store.receive(max_bytes=10) as upload:
        upload.write(b"content")
        upload.finish()
        upload.finish()
        assert upload.path.read_bytes() == b"content"
        with pytest.raises(ValueError, match="finished"):
            upload.write(b"more")
    assert files(tmp_path) == set()


def test_one_byte_more_than_the_limit_is_too_large_and_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    def receive(content: bytes) -> None:
        with store.receive(max_bytes=10) as upload:
            for byte in content:
                upload.write(bytes([byte]))

    receive(b"x" * 10)
    with pytest.raises(PayloadTooLarge, match="10 bytes"):
        receive(b"x" * 11)
    assert files(tmp_path) == set()


def test_the_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    put(ArtifactStore(tmp_path / "a" / "b"), b"content")
    assert (tmp_path / "a" / "b" / "sha256").is_dir()


def test_discarding_never_fails_whatever_became_of_the_file(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError

    with store.receive(max_bytes=10) as upload:
        upload.write(b"x")
        with monkeypatch.context() as broken:
            broken.setattr(os, "close", fails)
            upload.discard()
    assert files(tmp_path) == set()


def test_a_write_the_system_does_in_pieces_is_complete(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3]))
    digest = put(store, b"0123456789")
    assert store.path(digest).read_bytes() == b"0123456789"


def test_the_same_bytes_twice_are_one_artifact(store: ArtifactStore, tmp_path: Path) -> None:
    assert put(store, b"same") == put(store, b"same")
    assert len(files(tmp_path)) == 1


def test_an_artifact_damaged_on_the_disk_is_mended_by_its_next_upload(store: ArtifactStore) -> None:
    digest = put(store, b"whole")
    store.path(digest).write_bytes(b"ruined")
    put(store, b"whole")
    assert store.path(digest).read_bytes() == b"whole"


def test_deleting_is_done_once_or_twice_and_readers_can_go_on(store: ArtifactStore) -> None:
    digest = put(store, b"bytes")
    with store.path(digest).open("rb") as reader:
        store.delete(digest)
        store.delete(digest)
        assert reader.read() == b"bytes"
    assert not store.path(digest).exists()


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64, f"sha256:{'a' * 64}\n"],
)
def test_only_a_digest_leads_to_a_path(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        store.path(digest)


def test_a_workspace_is_on_the_stores_own_disk_and_gone_with_its_files(store: ArtifactStore, tmp_path: Path) -> None:
    with store.workspace() as folder:
        (folder / "made").write_bytes(b"x")
        assert folder.parent == tmp_path / "artifacts" / "incoming"
    assert files(tmp_path) == set()


def test_a_start_removes_unreferenced_files_reports_missing_ones_and_leaves_foreign_ones(
    store: ArtifactStore, tmp_path: Path
) -> None:
    kept, dropped = put(store, b"kept"), put(store, b"dropped")
    abandoned = Upload(tmp_path / "artifacts" / "incoming" / "x.safetensors", 10)
    abandoned.finish()
    workspace = tmp_path / "artifacts" / "incoming" / "y"
    workspace.mkdir()
    (workspace / "half").write_bytes(b"made")
    stranger = tmp_path / "artifacts" / "sha256" / "ab" / "notes.safetensors"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("not ours")
    missing = digest_of(b"never stored")

    collected = store.collect({kept, missing})

    assert set(collected.removed) == {str(store.path(dropped)), str(abandoned.path), str(workspace)}
    assert not workspace.exists()
    assert collected.missing == (missing,)
    assert store.path(kept).exists()
    assert stranger.exists()
    assert store.collect({kept}).removed == ()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace", "mkdir"])
def test_a_full_disk_is_reported_as_such_at_every_step(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(InsufficientStorage):
            put(store, b"content")
    assert files(tmp_path) == set()
    put(store, b"content")


def test_another_disk_error_is_not_reported_as_a_full_disk(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        put(store, b"content")
