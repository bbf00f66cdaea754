"""Answered lines in segments and the files made of them: each once, whatever fails on the way and is tried again."""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from sqlalchemy import Engine

from headmix_server.batches.input_file import Bounds
from headmix_server.batches.request import BatchRequest, Counts, Progress, read_progress, written
from headmix_server.batches.result_files import ResultFiles
from headmix_server.batches.segments import Entry, Segments
from headmix_server.core.errors import StorageUnavailable
from headmix_server.files.files import Files
from headmix_server.files.sweep import Sweep
from headmix_server.jobs.claims import Claim, Claims
from headmix_server.jobs.jobs import Jobs
from tests.support.storage.files import open_in

REQUEST = BatchRequest(input_file_id="file-1", endpoint="/v1/classify", completion_window="24h", expires=2**40)
BOUNDS = Bounds(lines=10, body_mib=1)


@pytest.fixture
def files(engine: Engine, tmp_path: Path) -> Files:
    return open_in(tmp_path, engine)


@pytest.fixture
def claims(engine: Engine) -> Claims:
    return Claims(engine, "server", ["batch"], seconds=3600)


@pytest.fixture
def claim(engine: Engine, claims: Claims) -> Claim:
    Jobs(engine).create("acme", "batch", written(REQUEST))
    claim = claims.claim()
    assert claim is not None
    return claim


@pytest.fixture
def opened(engine: Engine, files: Files, claims: Claims, claim: Claim, tmp_path: Path) -> Callable[[], Segments]:
    """Opens the segments of the batch, as each run of it does."""
    return lambda: Segments(engine, files, claims, claim, tmp_path)


def entry(number: int, *, is_ok: bool = True) -> Entry:
    return Entry(number, is_ok, json.dumps({"custom_id": str(number)}).encode())


def answered(segments: Segments) -> list[int]:
    return [one.number for one in segments.entries()]


def finalizing(segments: Segments, *entries: Entry) -> Progress:
    """Store answered lines; return the progress of the batch that ends with them."""
    for one in entries:
        segments.add(one, Counts(completed=int(one.is_ok), failed=int(not one.is_ok)))
    segments.store()
    return Progress(status="finalizing", ending="completed", total=len(entries))


def failing(real: Callable[..., Any], *, after: bool, call: int = 1) -> Callable[..., Any]:
    """Return a function of which one call fails, before or after it has done its work."""
    calls = 0

    def once(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != call:
            return real(*args, **more)
        if after:
            real(*args, **more)
        raise StorageUnavailable("away")

    return once


def test_segments_that_could_not_be_read_at_once_count_once(
    opened: Callable[[], Segments], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    for number in (1, 2, 3):
        first.add(entry(number), Counts(completed=1))
        first.store()
    again, real = opened(), files.open_bytes

    def away(digest: str) -> AbstractContextManager[BinaryIO]:
        monkeypatch.setattr(files, "open_bytes", real)
        raise StorageUnavailable(f"{digest} is away")

    monkeypatch.setattr(files, "open_bytes", away)
    with pytest.raises(StorageUnavailable):
        again.resume()
    assert (again.recorded, again.done, answered(again)) == (Counts(), set(), [])
    for _ in range(2):
        again.resume()
        assert (again.recorded, again.done, answered(again)) == (Counts(completed=3), {1, 2, 3}, [1, 2, 3])


@pytest.mark.parametrize("after", [True, False], ids=["recorded", "not recorded"])
def test_a_segment_is_recorded_once_though_it_is_unknown_whether_it_was(
    opened: Callable[[], Segments], claims: Claims, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    segments = opened()
    segments.add(entry(1), Counts(completed=1))
    monkeypatch.setattr(claims, "add_checkpoint", failing(claims.add_checkpoint, after=after))
    with pytest.raises(StorageUnavailable):
        segments.store()
    for number in (1, 2):
        segments.store()
        assert segments.recorded == Counts(completed=number)
        segments.add(entry(number + 1), Counts(completed=1))
    again = opened()
    again.resume()
    assert (again.recorded, answered(again)) == (Counts(completed=2), [1, 2])


def test_segments_are_gone_from_the_store_with_their_batch(
    opened: Callable[[], Segments], engine: Engine, files: Files, claims: Claims, claim: Claim
) -> None:
    segments = opened()
    for number in (1, 2):
        segments.add(entry(number), Counts(completed=1))
        segments.store()
    sweep = Sweep(engine, files)
    sweep.expire()
    assert len(list(files.bytes.digests())) == 2
    claims.end(claim, "succeeded")
    sweep.expire()
    assert list(files.bytes.digests()) == []


@pytest.mark.parametrize("after", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("call", [1, 2], ids=["output", "error"])
def test_each_result_file_is_stored_once_whichever_fails_on_the_way(
    opened: Callable[[], Segments],
    engine: Engine,
    files: Files,
    claims: Claims,
    claim: Claim,
    monkeypatch: pytest.MonkeyPatch,
    *,
    call: int,
    after: bool,
) -> None:
    segments = opened()
    progress = finalizing(segments, entry(1), entry(2, is_ok=False))
    claims.renew(claim, progress=written(progress))
    monkeypatch.setattr(files, "add", failing(files.add, after=after, call=call))
    results = ResultFiles(engine, files, claim, REQUEST)
    with pytest.raises(StorageUnavailable):
        results.make(segments, io.BytesIO(), BOUNDS, progress, 0)
    made = results.make(segments, io.BytesIO(), BOUNDS, progress, 0)
    stored = files.list("acme").files
    assert {file.id for file in stored} == {made.output_file_id, made.error_file_id}
    assert sorted(file.filename.rpartition("_")[2] for file in stored) == ["error.jsonl", "output.jsonl"]
    assert read_progress(Jobs(engine).get("acme", claim.job.id).progress) == made


def test_a_try_whose_file_appears_meanwhile_stores_no_other(
    opened: Callable[[], Segments],
    engine: Engine,
    files: Files,
    claims: Claims,
    claim: Claim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segments = opened()
    progress = finalizing(segments, entry(1))
    results, real = ResultFiles(engine, files, claim, REQUEST), files.add

    def add(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(files, "add", real)
        results.make(segments, io.BytesIO(), BOUNDS, progress, 0)  # an earlier try, committed only now
        return real(*args, **more)

    monkeypatch.setattr(files, "add", add)
    with pytest.raises(StorageUnavailable):
        results.make(segments, io.BytesIO(), BOUNDS, progress, 0)
    made = results.make(segments, io.BytesIO(), BOUNDS, progress, 0)
    assert [file.id for file in files.list("acme").files] == [made.output_file_id]
