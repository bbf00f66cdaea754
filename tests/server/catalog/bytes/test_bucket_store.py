"""Artifacts in a real S3 over HTTP: one that works, one that is down, and one whose contents were tampered with."""

import errno
import os
from asyncio import run
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from harness.adapters.records import digest_of
from harness.server.s3_server import S3Server, s3_server
from headmix_server.catalog.bytes.bucket import Bucket, BucketUnusable, open_bucket
from headmix_server.catalog.bytes.bucket_store import BucketStore
from headmix_server.catalog.bytes.holds import Holds
from headmix_server.catalog.bytes.store import place_of
from headmix_server.core.errors import ArtifactDamaged, InsufficientStorage, StorageUnavailable

MakeStore = Callable[..., BucketStore]


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    return open_bucket(s3.new_bucket())


@pytest.fixture
def make_store(bucket: Bucket, tmp_path: Path) -> MakeStore:
    def make(folder: str = "one", **changes: object) -> BucketStore:
        options = {"owner": "us", "cache_bytes": 1000, "is_held": lambda _: False, "young": timedelta(0), **changes}
        store = BucketStore(bucket, tmp_path / folder, **options)  # type: ignore[arg-type]
        store.collect(frozenset(digest for digest, _ in bucket.digests()))
        return store

    return make


def put(store: BucketStore, content: bytes) -> str:
    with store.receive(max_bytes=1 << 30) as upload:
        upload.write(content)
        store.commit(upload)
        return upload.digest


def there(bucket: Bucket) -> set[str]:
    return {digest for digest, _ in bucket.digests()}


def local(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_what_one_machine_stores_another_fetches_byte_for_byte(make_store: MakeStore, bucket: Bucket) -> None:
    content = bytes(range(256)) * 80_000  # several parts
    digest = put(make_store(cache_bytes=1 << 30), content)
    other = make_store("two", cache_bytes=1 << 30)
    assert not other.is_local(digest)
    run(other.download(digest))
    assert other.is_local(digest)
    assert other.path(digest).read_bytes() == content
    assert there(bucket) == {digest}


def test_a_deletion_leaves_nothing_in_the_bucket_or_here(make_store: MakeStore, bucket: Bucket, tmp_path: Path) -> None:
    store = make_store()
    digest = put(store, b"bytes")
    for _ in range(2):
        store.delete(digest)
    assert there(bucket) == local(tmp_path) == set()
    with pytest.raises(ArtifactDamaged, match="missing in the artifact store"):
        run(store.download(digest))


def test_files_here_are_bounded_and_the_least_used_go_first_but_never_what_is_held(make_store: MakeStore) -> None:
    holds = Holds()
    store = make_store(cache_bytes=30, is_held=holds.is_held)
    first, second, third = (put(store, letter * 10) for letter in (b"a", b"b", b"c"))
    assert store.is_local(first)
    fourth = put(store, b"d" * 10)
    assert [store.is_local(digest) for digest in (first, second, third, fourth)] == [True, False, True, True]
    with holds.acquire(first), holds.acquire(third):
        put(store, b"e" * 25)
        assert store.is_local(first)
        assert store.is_local(third)
        assert not store.is_local(fourth)
        assert store.path(first).read_bytes() == b"a" * 10
    put(store, b"f" * 25)
    assert store.cached_bytes <= 30
    run(store.download(second))
    assert store.path(second).read_bytes() == b"b" * 10


def test_files_here_are_known_and_bounded_after_a_restart(make_store: MakeStore, tmp_path: Path) -> None:
    digests = [put(make_store(), letter * 10) for letter in (b"a", b"b", b"c")]
    (tmp_path / "one" / "incoming" / "left.safetensors").write_bytes(b"half")
    assert all(make_store().is_local(digest) for digest in digests)
    assert len(local(tmp_path)) == 3
    assert make_store(cache_bytes=20).cached_bytes == 20


@pytest.mark.parametrize("damage", [b"other bytes", b"short", b"", b"bytes and more"])
def test_a_damaged_object_is_an_error_and_never_a_file(
    make_store: MakeStore, bucket: Bucket, tmp_path: Path, damage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = put(make_store(), b"bytes")
    obstore.put(bucket._store, f"sha256/{place_of(digest)}", damage)
    store = make_store("two")
    with pytest.raises(ArtifactDamaged, match="damaged"):
        run(store.download(digest))
    assert not store.is_local(digest)
    assert local(tmp_path / "two") == set()
    assert digest in capfd.readouterr().out


def test_an_outage_is_reported_plainly_and_local_artifacts_stay_usable(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with s3_server() as server:
        bucket = open_bucket(server.new_bucket())
        store = BucketStore(bucket, tmp_path, owner="us", cache_bytes=5, is_held=lambda _: False, young=timedelta(0))
        store.collect(())
        cold, warm = put(store, b"cold."), put(store, b"warm.")
        server.kill()

        def download(digest: str) -> None:
            run(store.download(digest))

        run(store.download(warm))
        for ask in (download, store.delete):
            with pytest.raises(StorageUnavailable, match="cannot be reached") as caught:
                ask(cold)
            assert caught.value.retry_after
        with pytest.raises(StorageUnavailable):
            put(store, b"new")
        again = BucketStore(bucket, tmp_path, owner="us", cache_bytes=5, is_held=lambda _: False)
        assert again.collect({cold, warm}).removed == ()
        assert again.is_local(warm)
    assert local(tmp_path) == {store.path(warm).name}
    logged = "".join(capfd.readouterr())
    assert "topsecret" not in logged
    assert "the artifact store failed" in logged


def test_an_unavailable_bucket_is_tried_once_and_left_alone_for_a_while(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    bucket = open_bucket(s3.new_bucket(), on_failure=lambda: failures.append(1))
    tries = 0

    def away(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        raise GenericError("it cannot be reached")

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "get_async", away)
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                run(bucket.get(digest_of(b"cold")))
    assert tries < 20
    assert len(failures) == tries


def test_a_refusal_of_one_object_does_not_block_the_others(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = open_bucket(s3.new_bucket())

    def refused(*_: object, **__: object) -> None:
        raise PermissionDeniedError("this one is not for you")

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "get_async", refused)
        with pytest.raises(StorageUnavailable):
            run(bucket.get(digest_of(b"theirs")))
    with pytest.raises(ArtifactDamaged, match="missing"):
        run(bucket.get(digest_of(b"ours")))


def test_a_start_removes_unreferenced_objects_unless_recent_and_leaves_foreign_ones(
    make_store: MakeStore, bucket: Bucket
) -> None:
    store = make_store()
    kept, dropped = put(store, b"kept"), put(store, b"dropped")
    obstore.put(bucket._store, "sha256/notes.txt", b"not ours")
    missing = digest_of(b"never stored")
    young = make_store(young=timedelta(hours=1))
    assert young.collect({kept, missing}).removed == ()
    collected = store.collect({kept, missing})
    assert (collected.removed, collected.missing) == ((dropped,), (missing,))
    assert there(bucket) == {kept}
    assert not store.is_local(dropped)
    assert bytes(obstore.get(bucket._store, "sha256/notes.txt").bytes()) == b"not ours"


def test_a_prefix_has_one_catalog_and_another_is_refused_before_it_removes_anything(
    make_store: MakeStore, bucket: Bucket, tmp_path: Path
) -> None:
    digest = put(make_store(), b"ours")
    stranger = BucketStore(bucket, tmp_path / "two", owner="them", cache_bytes=9, is_held=lambda _: False)
    with pytest.raises(BucketUnusable, match="another headmix database"):
        stranger.collect(())
    with pytest.raises(StorageUnavailable):
        stranger.delete(digest)
    with pytest.raises(StorageUnavailable):
        put(stranger, b"theirs")
    assert there(bucket) == {digest}


def test_a_missing_bucket_is_refused_at_the_start(s3: S3Server, tmp_path: Path) -> None:
    bucket = open_bucket(s3.address("nowhere"))
    store = BucketStore(bucket, tmp_path, owner="us", cache_bytes=9, is_held=lambda _: False)
    with pytest.raises(BucketUnusable, match="no bucket"):
        store.collect(())


@pytest.mark.parametrize(
    "url", ["nonsense", "file:///tmp/x", "memory:///", "https://example.org/x", "ftp://a/b", "s3://b?no_such=topsecret"]
)
def test_only_a_buckets_url_opens_and_its_query_is_never_shown(url: str) -> None:
    with pytest.raises(BucketUnusable) as caught:
        open_bucket(url)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://b/p", "gs://b/p", "az://c/p?account_name=a&account_key=dG9wc2VjcmV0", "s3://b?endpoint=http://h"]
)
def test_every_kind_of_bucket_opens(url: str) -> None:
    assert "?" not in open_bucket(url).shown


def test_a_disk_full_while_fetching_is_reported_as_such_and_the_next_try_succeeds(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    digest = put(make_store(), b"bytes")
    store = make_store("two")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(InsufficientStorage):
            run(store.download(digest))
    assert local(tmp_path / "two") == set()
    run(store.download(digest))
    assert store.path(digest).read_bytes() == b"bytes"
