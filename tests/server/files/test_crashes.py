"""A process that dies, or a disk that is full, at any call to system or bucket: a file is whole or not there."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine

from harness.adapters.records import digest_of
from harness.server.migrated_file import migrated_file
from headmix_server.core.errors import InsufficientStorage, StorageUnavailable
from headmix_server.database import open_database
from headmix_server.files.files import Files
from headmix_server.files.stored_file import Purpose
from headmix_server.files.uploads import Uploads
from tests.support.storage.crash import NEW, OLD, Crash, crash_at, disk_full_at
from tests.support.storage.files import check_at_rest, open_in

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ENOUGH = 200
Scenario = Callable[[Files, Uploads], None]


def put_new(files: Files, _: Uploads) -> None:
    files.put("acme", Purpose.BATCH, "new", [NEW[:65536], NEW[65536:]])


def delete_old(files: Files, _: Uploads) -> None:
    files.delete("acme", files.list("acme").files[0].id)


def upload_new_in_parts(files: Files, uploads: Uploads) -> None:
    upload = uploads.create("acme", Purpose.BATCH, "new", "text/plain", len(NEW), actor="key")
    parts = []
    for piece in (NEW[:65536], NEW[65536:]):
        with files.bytes.receive(max_bytes=len(piece)) as received:
            received.write(piece)
            parts.append(uploads.add_part("acme", upload.id, received).id)
    uploads.complete("acme", upload.id, parts, actor="key")


SCENARIOS: dict[str, tuple[Scenario, set[str]]] = {
    "put": (put_new, {digest_of(OLD), digest_of(NEW)}),
    "delete": (delete_old, set()),
    "parts": (upload_new_in_parts, {digest_of(OLD), digest_of(NEW)}),
}


@pytest.fixture
def engines() -> Iterator[Callable[[Path], Engine]]:
    opened = list[Engine]()

    def make(folder: Path) -> Engine:
        file = folder / "headmix.db"
        if not file.exists():
            file.write_bytes(migrated_file())
        opened.append(open_database(file))
        return opened[-1]

    yield make
    for engine in opened:
        engine.dispose()


def begin(folder: Path, engine: Engine) -> tuple[Files, Uploads]:
    files = open_in(folder, engine)
    files.put("acme", Purpose.FINE_TUNE, "old", [OLD])
    return files, Uploads(engine, files)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_any_call_leaves_all_or_nothing(
    place: Callable[[str], Path], engines: Callable[[Path], Engine], scenario: str
) -> None:
    run, after = SCENARIOS[scenario]
    outcomes = list[set[str]]()
    for call in range(1, ENOUGH):
        folder = place(str(call))
        engine = engines(folder)
        files, uploads = begin(folder, engine)
        try:
            with crash_at(call):
                run(files, uploads)
        except Crash:
            outcomes.append(check_at_rest(folder, engine))
            assert outcomes[-1] in ({digest_of(OLD)}, after)
        else:
            assert check_at_rest(folder, engine) == after
            break
    else:
        pytest.fail("the scenario never ended")
    assert outcomes


@pytest.mark.parametrize("scenario", ["put", "parts"])
def test_a_disk_full_at_any_call_changes_nothing_and_the_next_try_succeeds(
    tmp_path: Path, engines: Callable[[Path], Engine], scenario: str
) -> None:
    run, after = SCENARIOS[scenario]
    refused = 0
    for call in range(1, ENOUGH):
        folder = tmp_path / str(call)
        folder.mkdir()
        engine = engines(folder)
        files, uploads = begin(folder, engine)
        done = False
        with disk_full_at(call) as calls, suppress(InsufficientStorage):
            run(files, uploads)
            done = True
        if not done:
            refused += 1
            assert [file.filename for file in files.list("acme").files] == ["old"]
            run(files, uploads)
        assert check_at_rest(folder, engine) == after
        if calls.count < call:
            break
    else:
        pytest.fail("the scenario never ended")
    assert refused > 5


@pytest.mark.parametrize(("scenario", "call"), [("put", 3), ("put", 5), ("delete", 1), ("parts", 15)])
def test_a_real_kill_leaves_all_or_nothing(
    place: Callable[[str], Path], engines: Callable[[Path], Engine], scenario: str, call: int
) -> None:
    folder = place("data")
    engine = engines(folder)
    begin(folder, engine)
    engine.dispose()
    command = [sys.executable, "-m", "tests.support.storage.kill_files", str(folder), scenario, str(call)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    assert check_at_rest(folder, engines(folder)) in ({digest_of(OLD)}, SCENARIOS[scenario][1])


def test_an_unreachable_bucket_refuses_files_and_loses_none(
    s3_of_its_own: tuple[Path, Callable[[], None]], engines: Callable[[Path], Engine]
) -> None:
    folder, kill = s3_of_its_own
    files, uploads = begin(folder, engines(folder))
    old = files.list("acme").files[0]
    kill()
    for run in (put_new, upload_new_in_parts):
        with pytest.raises(StorageUnavailable):
            run(files, uploads)
    with pytest.raises(StorageUnavailable), files.open("acme", old.id):
        pass
    assert files.list("acme").files == (old,)
    assert files.delete("acme", old.id).file == old
    assert files.list("acme").files == ()
