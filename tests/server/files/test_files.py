"""A tenant's files: stored, read, listed, deleted; counted with its adapters; and nobody else's."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from harness.adapters.records import digest_of, record_of
from harness.server.queued_job import put_bytes
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import (
    ArtifactDamaged,
    InvalidRequest,
    NotFound,
    RateLimitExceeded,
    StorageUnavailable,
)
from headmix_server.database import audit_entries, reading, writing
from headmix_server.files import record
from headmix_server.files.files import Files
from headmix_server.files.references import hold_file, keep_for_job, release_holds
from headmix_server.files.stored_file import Purpose, StoredFile
from headmix_server.files.sweep import Sweep
from tests.support.storage.files import DAY_SECONDS, check_at_rest, later, open_in

CONTENT = b'{"messages": []}\n' * 100_000  # more than one block


@pytest.fixture
def folder(place: Callable[[str], Path]) -> Path:
    return place("data")


@pytest.fixture
def files(folder: Path, engine: Engine) -> Files:
    return open_in(folder, engine)


def put(
    files: Files,
    content: bytes,
    *,
    tenant: str = "acme",
    name: str = "a.jsonl",
    quota: Quota | None = None,
    expires: int | None = None,
) -> StoredFile:
    return files.put(tenant, Purpose.FINE_TUNE, name, [content], quota=quota, expires=expires)


def there(files: Files) -> set[str]:
    return {digest for digest, _ in files.bytes.digests()}


def test_a_file_is_its_bytes_with_a_name_and_a_purpose(files: Files, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    with source.open("rb") as opened:
        for put_from in (source, opened, [CONTENT[:7], CONTENT[7:]]):
            made = files.put("acme", Purpose.BATCH, "chats.jsonl", put_from)
            found = files.get("acme", made.id)
            assert found == made
            assert (found.purpose, found.filename, found.size_bytes) == (Purpose.BATCH, "chats.jsonl", len(CONTENT))
            assert found.digest == digest_of(CONTENT)
            with files.open("acme", made.id) as content:
                assert content.read() == CONTENT
                content.seek(3)
                assert content.read(2) == CONTENT[3:5]
    assert there(files) == {digest_of(CONTENT)}


def test_an_empty_file_is_a_file(files: Files) -> None:
    made = put(files, b"")
    with files.open("acme", made.id) as content:
        assert content.read() == b""


def test_another_tenants_file_does_not_exist(files: Files) -> None:
    made = put(files, CONTENT)
    for tenant, file_id in (("other", made.id), ("acme", made.id + "0"), ("acme", "")):
        with pytest.raises(NotFound) as refused:
            files.get(tenant, file_id)
        assert refused.value.message == f"There is no file {file_id!r}."
        with pytest.raises(NotFound):
            files.delete(tenant, file_id)
    assert files.list("other").files == ()
    assert files.get("acme", made.id) == made


def test_a_deleted_file_and_its_bytes_are_gone_unless_another_has_them(files: Files, engine: Engine) -> None:
    first, second, theirs = put(files, b"same"), put(files, b"same"), put(files, b"same", tenant="other")
    for mine in (first, second):
        assert files.delete("acme", mine.id).file == mine
        with pytest.raises(NotFound):
            files.get("acme", mine.id)
        assert there(files) == {first.digest}
    files.delete("other", theirs.id)
    assert there(files) == set()
    with reading(engine) as session:
        actions = [entry.action for entry in audit_entries(session, tenant="acme", limit=9)]
    assert actions == ["file.delete", "file.delete", "file.create", "file.create"]
    put(files, b"same")
    assert there(files) == {first.digest}


def test_pages_follow_each_other_in_both_orders_even_after_a_deleted_file(files: Files) -> None:
    made = []
    for number in range(5):
        with later(number * 10 - 100):
            made.append(put(files, str(number).encode(), name=f"{number}"))
    batch = files.put("acme", Purpose.BATCH, "b", [b"b"])
    first = files.list("acme", limit=2)
    assert ([file.id for file in first.files], first.has_more) == ([batch.id, made[4].id], True)
    files.delete("acme", made[4].id)
    second = files.list("acme", limit=4, after=made[4].id)
    assert ([file.id for file in second.files], second.has_more) == ([file.id for file in made[3::-1]], False)
    oldest = files.list("acme", after=made[1].id, newest_first=False, purpose="fine-tune")
    assert [file.id for file in oldest.files] == [made[2].id, made[3].id]
    assert files.list("acme", purpose="batch").files == (batch,)
    for nonsense in ("x", "file-", "file-" + "g" * 24, "file-" + "0" * 25):
        with pytest.raises(InvalidRequest) as refused:
            files.list("acme", after=nonsense)
        assert refused.value.param == "after"


def test_files_and_adapters_count_together_and_the_same_bytes_once(files: Files, engine: Engine) -> None:
    catalog, quota = Catalog(engine), Quota(stored_bytes=250)
    put(files, b"x" * 100, quota=quota)
    put(files, b"x" * 100, quota=quota)
    catalog.publish("acme", "tone", record_of(b"y" * 100), quota=quota)
    with pytest.raises(RateLimitExceeded, match="it stores 200") as refused:
        put(files, b"z" * 100, quota=quota)
    assert (refused.value.limit, refused.value.param) == ("stored_bytes", "file")
    with pytest.raises(RateLimitExceeded, match="it stores 200"):
        catalog.publish("acme", "tone", record_of(b"z" * 100), quota=quota)
    assert there(files) == {digest_of(b"x" * 100)}
    put(files, b"z" * 100, tenant="other", quota=quota)
    for file in files.list("acme").files:
        files.delete("acme", file.id)
    put(files, b"z" * 150, quota=quota)


def test_a_tenant_has_so_many_files_and_no_more(
    files: Files, monkeypatch: pytest.MonkeyPatch, folder: Path, engine: Engine
) -> None:
    monkeypatch.setattr(record, "MOST_FILES", 2)
    made = [put(files, b"same", quota=Quota()) for _ in range(2)]
    with pytest.raises(RateLimitExceeded, match="has 2 files") as refused:
        put(files, b"more", quota=Quota())
    assert refused.value.limit == "files"
    put(files, b"a job's result")
    put(files, b"same", tenant="other", quota=Quota())
    for file in files.list("acme").files[:2]:
        files.delete("acme", file.id)
    put(files, b"more", quota=Quota())
    assert check_at_rest(folder, engine) >= {made[0].digest, digest_of(b"more")}


def test_a_server_that_has_lost_the_database_removes_nothing(files: Files, folder: Path, engine: Engine) -> None:
    def lost(_: Session) -> None:
        raise StorageUnavailable("another server has taken over")

    made = put(files, b"x")
    worker = open_in(folder, engine, removes_bytes=False)
    worker.delete("acme", made.id)
    open_in(folder, engine.execution_options(fence=lost)).removal.run()
    assert there(files) == {made.digest}
    files.removal.run()
    assert there(files) == set()


def test_an_expired_file_does_not_exist_costs_nothing_and_its_bytes_go(
    files: Files, engine: Engine, folder: Path
) -> None:
    quota = Quota(stored_bytes=100)
    made = put(files, b"x" * 100, quota=quota, expires=int(time.time()) + 3600)
    assert files.list("acme").files == (made,)
    with later(3601):
        with pytest.raises(NotFound):
            files.get("acme", made.id)
        assert files.list("acme").files == ()
        put(files, b"y" * 100, quota=quota)
        Sweep(engine, files).expire()
    assert there(files) == {digest_of(b"y" * 100)}
    with reading(engine) as session:
        assert "file.expire" in {entry.action for entry in audit_entries(session, tenant="acme", limit=9)}
    assert check_at_rest(folder, engine) == {digest_of(b"y" * 100)}


def test_a_job_keeps_the_bytes_of_a_file_that_is_deleted(
    files: Files, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    made = put(files, CONTENT)
    with writing(engine) as session:
        assert hold_file(session, "acme", made.id, holder="job-1") == made
        with pytest.raises(NotFound):
            hold_file(session, "other", made.id, holder="job-2")
    files.delete("acme", made.id)
    with later(400 * DAY_SECONDS):
        Sweep(engine, files).expire()
    files.fetch(made.digest, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    with writing(engine) as session:
        release_holds(session, "job-1")
    assert check_at_rest(folder, engine) == set()


def test_bytes_that_a_dead_process_staged_stay_for_a_day(folder: Path, engine: Engine, tmp_path: Path) -> None:
    worker, server = open_in(folder, engine, removes_bytes=False), open_in(folder, engine)
    (tmp_path / "checkpoint").write_bytes(CONTENT)
    digest = put_bytes(worker, tmp_path / "checkpoint")
    sweep = Sweep(engine, server)
    sweep.expire()
    sweep.collect()
    server.fetch(digest, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == CONTENT
    with later(DAY_SECONDS + 60):
        sweep.expire()
    assert there(server) == set()


def test_of_staged_bytes_only_those_that_are_referred_to_outlast_the_block(
    folder: Path, engine: Engine, tmp_path: Path
) -> None:
    worker, sweep = open_in(folder, engine, removes_bytes=False), Sweep(engine, open_in(folder, engine))
    used, unused = tmp_path / "used", tmp_path / "unused"
    used.write_bytes(b"used")
    unused.write_bytes(b"unused")
    with worker.staging() as staging:
        digest = staging.put(used)
        staging.put(unused)
        sweep.expire()
        assert there(worker) == {digest_of(b"used"), digest_of(b"unused")}
        with writing(engine) as session:
            keep_for_job(session, {digest: 4}, job="job-1")
    sweep.expire()
    assert there(worker) == {digest}
    with writing(engine) as session:
        release_holds(session, "job-1")
    assert check_at_rest(folder, engine) == set()


def test_staging_the_same_bytes_again_holds_them_for_longer_and_once(
    folder: Path, engine: Engine, tmp_path: Path
) -> None:
    files, path = open_in(folder, engine), tmp_path / "result"
    path.write_bytes(CONTENT)
    with files.staging() as staging:
        digest = staging.put(path)
        with later(DAY_SECONDS - 60):
            assert staging.put(path) == digest
        with later(DAY_SECONDS + 60):
            Sweep(engine, files).expire()
            assert there(files) == {digest}
        with later(3 * DAY_SECONDS):
            Sweep(engine, files).expire()
            assert there(files) == set()
            staging.put(path)
            assert there(files) == {digest}
    assert check_at_rest(folder, engine) == set()


def test_staging_ends_without_the_database_and_leaves_the_rest_to_the_sweep(
    folder: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = open_in(folder, engine), tmp_path / "result"
    path.write_bytes(CONTENT)

    def away(*_: object) -> Session:
        raise StorageUnavailable("The database cannot be reached.")

    with monkeypatch.context() as patch, files.staging() as staging:
        staging.put(path)
        patch.setattr("headmix_server.files.writer.writing", away)
    assert there(files) == {digest_of(CONTENT)}
    with later(DAY_SECONDS + 60):
        Sweep(engine, files).expire()
    assert check_at_rest(folder, engine) == set()


def test_a_worker_leaves_removals_to_the_server(folder: Path, engine: Engine) -> None:
    worker = open_in(folder, engine, removes_bytes=False)
    made = put(worker, b"x")
    worker.delete("acme", made.id)
    assert there(worker) == {made.digest}
    Sweep(engine, open_in(folder, engine)).expire()
    assert there(worker) == set()


def test_many_writers_and_deleters_of_the_same_bytes_lose_none(folder: Path, engine: Engine) -> None:
    server, worker = open_in(folder, engine), open_in(folder, engine, removes_bytes=False)
    kept, faults = list[StoredFile](), list[BaseException]()

    def work(files: Files) -> None:
        try:
            for _ in range(4):
                gone, stays = put(files, b"same"), put(files, b"same")
                files.delete("acme", gone.id)
                with files.open("acme", stays.id) as content:
                    assert content.read() == b"same"
                if files is worker:
                    kept.append(stays)
                else:
                    files.delete("acme", stays.id)
        except BaseException as error:  # noqa: BLE001 - shown below
            faults.append(error)

    threads = [threading.Thread(target=work, args=(files,)) for files in (server, worker, server)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for file in kept:
        server.delete("acme", file.id)
    assert check_at_rest(folder, engine) == set()


def test_damaged_and_missing_bytes_are_an_error_and_no_file(files: Files, tmp_path: Path) -> None:
    made = put(files, CONTENT)
    files.bytes.delete(made.digest)
    with pytest.raises(ArtifactDamaged, match="missing"):
        files.fetch(made.digest, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    with pytest.raises(ArtifactDamaged, match="missing"), files.open("acme", made.id):
        pass
    put(files, CONTENT)
    files.fetch(made.digest, tmp_path / "fetched")
