import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.adapters.records import digest_of, record_of
from harness.server.s3_server import S3Server
from headmix_server.catalog.bytes.bucket import open_bucket
from headmix_server.catalog.library import Library
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import InsufficientStorage, InvalidRequest, ModelNotFound, RateLimitExceeded
from tests.support.storage.crash import (
    BUCKET,
    NEW,
    OLD,
    Crash,
    crash_at,
    disk_full_at,
    open_library,
    publish,
    run_scenario,
)

ROOT = Path(__file__).parents[3]
ENOUGH = 100


Place = Callable[[str], Path]


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Makes folders for a catalog with its artifacts in a folder or in a bucket."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if request.param == "bucket":
            server: S3Server = request.getfixturevalue("s3")
            (folder / BUCKET).write_text(server.new_bucket())
        return folder

    return make


def check_whole(folder: Path, *, allowed: set[bytes | None]) -> bytes | None:
    """Restart and return the current content, one of those allowed (None: no adapter); nothing else may be left."""
    library = open_library(folder)
    assert library.start().missing == ()
    referenced = library.catalog.referenced_digests()
    assert library.catalog.stored_digests() == referenced
    there = {path for path in (folder / "artifacts").rglob("*") if path.is_file()}
    expected = {library.store.path(digest) for digest in referenced}
    if (folder / BUCKET).exists():
        assert {digest for digest, _ in open_bucket((folder / BUCKET).read_text()).digests()} == referenced
        assert there <= expected
    else:
        assert there == expected
    try:
        version = library.catalog.resolve("acme", "a")
        asyncio.run(library.store.download(version.digest))
        content = library.path(version).read_bytes()
    except ModelNotFound:
        content = None
    assert content in allowed
    assert content is None or content in {OLD, NEW}
    return content


def test_a_quota_is_checked_where_bytes_and_name_are_published(place: Place) -> None:
    library = open_library(place("data"))
    with library.store.receive(max_bytes=len(NEW)) as upload:
        upload.write(NEW)
        upload.finish()
        with pytest.raises(RateLimitExceeded):
            library.publish("acme", "a", upload, record_of(NEW), quota=Quota(stored_bytes=len(NEW) - 1))
    assert library.catalog.count("acme") == 0
    assert library.catalog.stored_digests() == set()
    library.close()


@pytest.mark.parametrize(("scenario", "after"), [("publish", NEW), ("delete", None)])
def test_a_crash_at_any_call_leaves_all_or_nothing(place: Place, scenario: str, after: bytes | None) -> None:
    outcomes = []
    for call in range(1, ENOUGH):
        folder = place(str(call))
        library = open_library(folder)
        publish(library, OLD)
        try:
            with crash_at(call):
                run_scenario(library, scenario)
        except Crash:
            outcomes.append(check_whole(folder, allowed={OLD, after}))
        else:
            assert check_whole(folder, allowed={after}) == after
            break
    else:
        pytest.fail("the scenario never ended")
    assert outcomes


@pytest.mark.parametrize(("scenario", "call"), [("publish", 2), ("publish", 5), ("publish", 9), ("delete", 1)])
def test_a_real_kill_leaves_all_or_nothing(place: Place, scenario: str, call: int) -> None:
    folder = place("data")
    publish(open_library(folder), OLD)
    command = [sys.executable, "-m", "tests.support.storage.crash", str(folder), scenario, str(call)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    check_whole(folder, allowed={OLD, NEW if scenario == "publish" else None})


def test_a_disk_that_is_really_full_is_reported_as_such_and_changes_nothing(place: Place) -> None:
    folder = place("data")
    publish(open_library(folder), OLD)
    command = [sys.executable, "-m", "tests.support.storage.full_disk", str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == InsufficientStorage.status % 256
    check_whole(folder, allowed={OLD})


def test_a_disk_full_at_any_call_changes_nothing_and_the_next_try_succeeds(tmp_path: Path) -> None:
    refused = 0
    for call in range(1, ENOUGH):
        folder = tmp_path / str(call)
        library = open_library(folder)
        publish(library, OLD)
        with disk_full_at(call) as calls, contextlib.suppress(InsufficientStorage):
            publish(library, NEW)
        if library.catalog.resolve("acme", "a").version == 1:
            refused += 1
            check_whole(folder, allowed={OLD})
            publish(library, NEW)
        check_whole(folder, allowed={NEW})
        if calls.count < call:
            break
    else:
        pytest.fail("the upload never ended")
    assert refused > 5


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path)


def test_a_refused_name_leaves_no_file(library: Library, tmp_path: Path) -> None:
    with library.store.receive(max_bytes=10) as upload:
        upload.write(b"1")
        with pytest.raises(InvalidRequest):
            library.publish("acme", "Not A Name", upload, record_of(b"1"))
    library.drain()
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_a_refused_name_does_not_take_the_file_others_refer_to(library: Library) -> None:
    publish(library, OLD)
    with library.store.receive(max_bytes=len(OLD)) as upload:
        upload.write(OLD)
        with pytest.raises(InvalidRequest):
            library.publish("acme", "Not A Name", upload, record_of(OLD))
    assert library.path(library.catalog.resolve("acme", "a")).read_bytes() == OLD


def test_a_record_of_other_bytes_is_refused(library: Library) -> None:
    with library.store.receive(max_bytes=10) as upload:
        upload.write(b"1")
        with pytest.raises(ValueError, match="the upload is"):
            library.publish("acme", "a", upload, record_of(b"2"))


def test_the_engine_is_given_the_file_and_the_name(library: Library) -> None:
    publish(library, OLD)
    ref = library.ref(library.catalog.resolve("acme", "a"))
    assert (ref.tenant, ref.name, ref.version, ref.digest) == ("acme", "a", 1, digest_of(OLD))
    assert Path(ref.path).read_bytes() == OLD


def test_a_deletion_never_takes_the_file_of_a_simultaneous_upload(library: Library) -> None:
    start = threading.Barrier(2)
    faults: list[BaseException] = []

    def other() -> None:
        try:
            for _ in range(15):
                start.wait()
                with library.store.receive(max_bytes=10) as upload:
                    upload.write(b"1")
                    library.publish("other", "b", upload, record_of(b"1"))
                assert library.path(library.catalog.resolve("other", "b")).read_bytes() == b"1"
                start.wait()
                library.delete("other", "b")
        except BaseException as fault:
            faults.append(fault)
            start.abort()
            raise

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(15):
        publish(library, b"1")
        start.wait()
        library.delete("acme", "a")
        start.wait()
    thread.join()
    assert not faults


def test_what_is_held_stays_after_its_deletion_until_the_last_hold_is_back(library: Library) -> None:
    publish(library, OLD)
    version, first = library.hold("acme", "a")
    _, second = library.hold("acme", "a@1")
    library.delete("acme", "a")
    with pytest.raises(ModelNotFound):
        library.hold("acme", "a")
    first.release()
    library.drain()
    assert library.path(version).read_bytes() == OLD
    second.release()
    library.drain()
    assert not library.path(version).exists()
    assert library.catalog.stored_digests() == frozenset()


def test_bytes_that_come_back_while_their_deletion_waits_stay(library: Library) -> None:
    publish(library, OLD)
    version, hold = library.hold("acme", "a")
    library.delete("acme", "a")
    publish(library, OLD)
    hold.release()
    library.drain()
    assert library.path(version).read_bytes() == OLD
    assert library.catalog.tombstones.digests() == frozenset()
    assert library.catalog.resolve("acme", "a").version == 2


def test_a_deletion_a_crash_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    crashed = open_library(tmp_path)
    publish(crashed, OLD)
    version, _ = crashed.hold("acme", "a")
    crashed.delete("acme", "a")
    assert crashed.path(version).exists()
    library = open_library(tmp_path)
    assert library.start().missing == ()
    assert not library.path(version).exists()
    assert library.catalog.stored_digests() == frozenset()


def test_freeing_that_fails_is_done_later(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(library, OLD)
    path = library.path(library.catalog.resolve("acme", "a"))

    def broken(_: str) -> None:
        raise OSError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(library.store, "delete", broken)
        library.delete("acme", "a")
        library.free_doomed()
    assert path.exists()
    library.free_doomed()
    assert not path.exists()
    assert library.catalog.stored_digests() == frozenset()


def test_a_name_that_is_deleted_while_it_is_resolved_is_held_with_its_bytes_or_not_found(library: Library) -> None:
    faults: list[BaseException] = []
    done = threading.Event()

    def use() -> None:
        try:
            while not done.is_set():
                with contextlib.suppress(ModelNotFound):
                    version, hold = library.hold("acme", "a")
                    with hold:
                        assert library.path(version).read_bytes() in (OLD, NEW)
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        publish(library, (OLD, NEW)[turn % 2])
        library.delete("acme", "a")
    done.set()
    for thread in threads:
        thread.join()
    library.drain()
    assert not faults
    assert library.catalog.stored_digests() == frozenset()
