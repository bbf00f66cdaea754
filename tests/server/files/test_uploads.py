"""Files that arrive in parts, on each database and store."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, event

from harness.adapters.records import digest_of
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import InvalidRequest, NotFound, PayloadTooLarge, RateLimitExceeded
from headmix_server.database import writing
from headmix_server.files import record
from headmix_server.files import uploads as module
from headmix_server.files.files import Files
from headmix_server.files.stored_file import Purpose
from headmix_server.files.sweep import Sweep
from headmix_server.files.tables import UploadPartRow
from headmix_server.files.uploads import PartialUpload, Uploads, UploadState
from tests.support.storage.files import DAY_SECONDS, check_at_rest, later, open_in


@pytest.fixture
def folder(place: Callable[[str], Path]) -> Path:
    return place("data")


@pytest.fixture
def files(folder: Path, engine: Engine) -> Files:
    return open_in(folder, engine)


@pytest.fixture
def uploads(engine: Engine, files: Files) -> Uploads:
    return Uploads(engine, files)


def create(uploads: Uploads, size: int, *, quota: Quota | None = None) -> PartialUpload:
    return uploads.create("acme", Purpose.BATCH, "a", "text/plain", size, quota=quota, actor="key")


def add(files: Files, uploads: Uploads, upload: PartialUpload, content: bytes) -> str:
    with files.bytes.receive(max_bytes=len(content)) as received:
        received.write(content)
        return uploads.add_part("acme", upload.id, received).id


def test_parts_that_arrive_at_once_make_one_file(files: Files, uploads: Uploads, folder: Path, engine: Engine) -> None:
    pieces = [bytes([number]) * 1000 for number in range(8)]
    upload, parts = create(uploads, 8000), dict[int, str]()

    def send(number: int) -> None:
        parts[number] = add(files, uploads, upload, pieces[number])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(PayloadTooLarge):
        add(files, uploads, upload, b"x")
    whole = b"".join(pieces)
    order = [parts[number] for number in range(8)]
    done = uploads.complete("acme", upload.id, order, md5=hashlib.md5(whole).hexdigest(), actor="key")
    assert done.state is UploadState.COMPLETED
    assert done.file is not None
    with files.open("acme", done.file.id) as content:
        assert content.read() == whole
    assert uploads.complete("acme", upload.id, order, actor="key") == done
    assert check_at_rest(folder, engine) == {digest_of(whole)}


def test_equal_parts_are_parts_of_their_own(files: Files, uploads: Uploads, folder: Path, engine: Engine) -> None:
    upload = create(uploads, 6)
    parts = [add(files, uploads, upload, b"ab") for _ in range(3)]
    assert len(set(parts)) == 3
    done = uploads.complete("acme", upload.id, parts, actor="key")
    assert done.file is not None
    assert check_at_rest(folder, engine) == {digest_of(b"ababab")}


def test_what_was_announced_counts_with_files_until_it_ends(files: Files, uploads: Uploads, engine: Engine) -> None:
    quota = Quota(stored_bytes=100)
    upload = create(uploads, 60, quota=quota)
    with pytest.raises(RateLimitExceeded):
        create(uploads, 60, quota=quota)
    with pytest.raises(RateLimitExceeded):
        files.put("acme", Purpose.BATCH, "b", [b"x" * 60], quota=quota)
    done = uploads.complete("acme", upload.id, [add(files, uploads, upload, b"y" * 60)], actor="key")
    with pytest.raises(RateLimitExceeded):
        create(uploads, 60, quota=quota)
    assert done.file is not None
    files.delete("acme", done.file.id)
    create(uploads, 60, quota=quota)
    with later(3601):
        create(uploads, 60, quota=quota)  # the one before has expired
        Sweep(engine, files).expire()


def test_an_upload_of_another_tenant_does_not_exist(files: Files, uploads: Uploads) -> None:
    upload = create(uploads, 2)
    part = add(files, uploads, upload, b"ab")
    with pytest.raises(NotFound):
        uploads.complete("other", upload.id, [part], actor="key")
    with pytest.raises(NotFound):
        uploads.cancel("other", upload.id, actor="key")
    with pytest.raises(NotFound):
        uploads.check_part("other", upload.id, least=0)
    mine = create(uploads, 2)
    with pytest.raises(InvalidRequest, match="this upload's parts"):
        uploads.complete("acme", mine.id, [part], actor="key")


def test_uploads_and_parts_are_bounded(
    files: Files, uploads: Uploads, monkeypatch: pytest.MonkeyPatch, folder: Path, engine: Engine
) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 2)
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    first, _ = create(uploads, 9), create(uploads, 9)
    with pytest.raises(RateLimitExceeded):
        create(uploads, 9)
    for content in (b"a", b"b"):
        add(files, uploads, first, content)
    with pytest.raises(InvalidRequest, match="at most 2 parts"):
        uploads.check_part("acme", first.id, least=0)
    uploads.cancel("acme", first.id, actor="key")
    create(uploads, 9)
    assert check_at_rest(folder, engine) == set()


def test_an_upload_that_ended_is_forgotten_after_a_day(files: Files, uploads: Uploads, engine: Engine) -> None:
    upload = create(uploads, 2)
    uploads.cancel("acme", upload.id, actor="key")
    sweep = Sweep(engine, files)
    sweep.expire()
    assert uploads.cancel("acme", upload.id, actor="key").state is UploadState.CANCELLED
    with later(DAY_SECONDS + 3700):
        sweep.expire()
    with pytest.raises(NotFound):
        uploads.cancel("acme", upload.id, actor="key")


def test_an_end_of_a_thousand_parts_takes_a_handful_of_statements(
    files: Files, uploads: Uploads, engine: Engine, folder: Path
) -> None:
    upload, noted = create(uploads, 600), list[str]()
    with writing(engine) as session:  # faster than storing so many
        session.add_all(
            UploadPartRow(id=f"part_{number}", upload_id=upload.id, digest=f"d{number}", size_bytes=1, created=0)
            for number in range(600)
        )

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        noted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    with writing(engine) as session:
        module.remove_parts(session, upload.id)
        session.rollback()
    event.remove(engine, "before_cursor_execute", note)
    assert 0 < len(noted) < 30
    with writing(engine) as session:
        session.execute(delete(UploadPartRow))
    assert check_at_rest(folder, engine) == set()


def test_an_upload_that_would_be_one_file_too_many_is_completed_once_another_is_deleted(
    files: Files, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MOST_FILES", 1)
    first = files.put("acme", Purpose.BATCH, "first", [b"1"])
    upload = create(uploads, 4)
    part = add(files, uploads, upload, b"late")
    with pytest.raises(RateLimitExceeded, match="has 1 files"):
        uploads.complete("acme", upload.id, [part], actor="key")
    files.delete("acme", first.id)
    made = uploads.complete("acme", upload.id, [part], actor="key")
    assert (made.state, len(files.list("acme").files)) == (UploadState.COMPLETED, 1)


def test_completing_an_upload_does_not_count_its_bytes_twice(files: Files, uploads: Uploads) -> None:
    quota = Quota(stored_bytes=4)
    upload = create(uploads, 4, quota=quota)
    made = uploads.complete("acme", upload.id, [add(files, uploads, upload, b"full")], actor="key")
    assert made.state == UploadState.COMPLETED
