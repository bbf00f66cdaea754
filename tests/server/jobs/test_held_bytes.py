"""What unfinished jobs hold counts towards their tenant's quota, each digest once, until they end."""

import threading
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import Engine, TableClause, text
from sqlalchemy.orm import Session

from harness.adapters.records import digest_of, record_of
from headmix_server.batches.batches import Batches, NewBatch
from headmix_server.catalog import quota as quota_module
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.quota import Quota, Stored, held_for_jobs, read_stored
from headmix_server.core.errors import RateLimitExceeded
from headmix_server.database import Base, ensure_tenant, reading, writing
from headmix_server.files.files import Files
from headmix_server.files.references import hold_file, keep_for_job
from headmix_server.files.stored_file import Purpose
from headmix_server.files.tables import FileHoldRow
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.job import ENDED, Job, Kind, State
from headmix_server.jobs.jobs import Jobs
from tests.support.storage.files import check_at_rest, open_in

SIZE = 100


def content(letter: str) -> bytes:
    return letter.encode() * SIZE


@pytest.fixture
def files(tmp_path: Path, engine: Engine) -> Files:
    return open_in(tmp_path, engine)


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    return Jobs(engine)


@pytest.fixture
def claims(engine: Engine) -> Claims:
    return Claims(engine, "worker", ["fine_tuning", "batch"])


def put(files: Files, data: bytes, *, tenant: str = "acme", quota: Quota | None = None) -> str:
    return files.put(tenant, Purpose.BATCH, "in.jsonl", [data], quota=quota).id


def stored(engine: Engine, tenant: str = "acme") -> Stored:
    with reading(engine) as session:
        return read_stored(session, tenant)


def job_over(jobs: Jobs, file_id: str, *, tenant: str = "acme", state: State = "queued") -> Job:
    def hold(session: Session, job_id: str) -> None:
        hold_file(session, tenant, file_id, holder=job_id)

    return jobs.create(tenant, "fine_tuning", "{}", state=state, in_transaction=hold)


def test_a_deleted_file_that_a_batch_holds_counts_until_the_batch_ends(
    files: Files, jobs: Jobs, engine: Engine, tmp_path: Path
) -> None:
    quota, batches = Quota(stored_bytes=2 * SIZE - 1), Batches(engine, jobs)
    file = put(files, content("a"), quota=quota)
    new = NewBatch(
        input_file_id=file, endpoint="/v1/classify", completion_window="30d", metadata=None, output_seconds=None
    )
    batch = batches.create("acme", new, key_id=None, actor="key", quota=quota)
    files.delete("acme", file)
    assert stored(engine) == Stored(SIZE, SIZE)
    with pytest.raises(RateLimitExceeded, match=r"stores 100 \(100 of them only until .* or cancel a job\."):
        put(files, content("b"), quota=quota)
    put(files, content("a"), quota=quota)  # the same bytes cost nothing more
    assert stored(engine) == Stored(SIZE, 0)
    files.delete("acme", files.list("acme").files[0].id)
    batches.cancel("acme", batch.job.id, actor="key")
    assert stored(engine) == Stored(0)
    put(files, content("b"), quota=quota)
    assert check_at_rest(tmp_path, engine) == {digest_of(content("b"))}


@pytest.mark.parametrize("state", quota_module.UNFINISHED)
def test_a_job_in_any_state_before_its_end_counts(files: Files, jobs: Jobs, engine: Engine, state: State) -> None:
    file = put(files, content("a"))
    job = job_over(jobs, file, state=state)
    files.delete("acme", file)
    assert stored(engine) == Stored(SIZE, SIZE)
    assert jobs.move(job.id, before={state}, after="failed")
    assert stored(engine) == Stored(0)


def test_bytes_of_jobs_files_and_artifacts_count_once_and_for_their_own_tenant(
    files: Files, jobs: Jobs, engine: Engine
) -> None:
    catalog = Catalog(engine)
    for tenant in ("acme", "other"):
        for _ in range(2):
            job_over(jobs, put(files, content("a"), tenant=tenant), tenant=tenant)
    catalog.publish("acme", "tone", record_of(content("a")))
    catalog.publish("acme", "mood", record_of(content("b")))
    assert stored(engine) == Stored(2 * SIZE, 0)
    assert {files.delete("acme", file.id).held_by_jobs for file in files.list("acme").files} == {SIZE}
    assert files.delete("acme", put(files, content("b"))).held_by_jobs == 0
    assert (stored(engine), stored(engine, "other")) == (Stored(2 * SIZE, 0), Stored(SIZE, 0))
    assert stored(engine, "nobody") == Stored(0)


def test_the_newest_checkpoint_of_a_training_and_every_segment_of_a_batch_count(
    jobs: Jobs, claims: Claims, engine: Engine
) -> None:
    kinds: tuple[tuple[Kind, str, int], ...] = (("fine_tuning", "trainer", 1), ("batch", "asker", 1 << 30))
    for kind, tenant, keep in kinds:
        jobs.create(tenant, kind, "{}")
        claim = claims.claim()
        assert claim is not None
        for step in (1, 2, 3):
            claims.add_checkpoint(claim, step=step, digest=f"{kind}-{step}", size_bytes=10 * step, keep=keep)
    assert stored(engine, "trainer") == Stored(30, 30)
    assert stored(engine, "asker") == Stored(60, 60)


def test_a_checkpoint_beyond_the_quota_is_kept_and_new_uploads_and_jobs_are_refused_until_it_is_gone(
    files: Files, jobs: Jobs, claims: Claims, engine: Engine
) -> None:
    quota = Quota(stored_bytes=SIZE)
    job = jobs.create("acme", "fine_tuning", "{}")
    claim = claims.claim()
    assert claim is not None
    claims.add_checkpoint(claim, step=1, digest="state", size_bytes=3 * SIZE)
    with pytest.raises(RateLimitExceeded):
        put(files, b"x", quota=quota)
    with writing(engine) as session, pytest.raises(RateLimitExceeded, match="no room for results"):
        quota.check_new_job(session, "acme")
    assert claims.last_checkpoint(claim) is not None
    claims.end(claim, "failed", error="{}")
    assert jobs.get("acme", job.id).has_ended
    put(files, b"x", quota=quota)


def test_a_paused_job_counts_as_long_as_it_is_paused(files: Files, jobs: Jobs, engine: Engine) -> None:
    file = put(files, content("a"))
    job = job_over(jobs, file)
    files.delete("acme", file)
    jobs.want("acme", job.id, "pause")
    assert stored(engine) == Stored(SIZE, SIZE)
    jobs.want("acme", job.id, "cancel")
    assert stored(engine) == Stored(0)


def test_a_result_counts_before_it_is_published_and_is_published_even_beyond_the_quota(
    jobs: Jobs, claims: Claims, engine: Engine
) -> None:
    quota, artifact = Quota(stored_bytes=SIZE // 2), record_of(content("a"))
    jobs.create("acme", "fine_tuning", "{}")
    claim = claims.claim()
    assert claim is not None
    claims.end(
        claim,
        "publishing",
        result="{}",
        within=lambda session: keep_for_job(session, {artifact.digest: SIZE}, job=claim.job.id),
    )
    assert stored(engine) == Stored(SIZE, SIZE)
    catalog = Catalog(engine)
    catalog.publish("acme", "tone", artifact, quota=quota)
    assert stored(engine) == Stored(SIZE, 0)
    with pytest.raises(RateLimitExceeded):
        catalog.publish("acme", "tone", record_of(content("b")), quota=quota)


def test_a_hold_of_an_older_database_whose_size_is_unknown_costs_nothing(jobs: Jobs, engine: Engine) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    with writing(engine) as session:
        session.add(FileHoldRow(id="old", digest="old", holder=job.id, size_bytes=None, expires=None))
        assert held_for_jobs(session, "acme", "old") == 0
    assert stored(engine) == Stored(0)


def test_uploads_that_race_with_jobs_and_deletions_never_exceed_the_quota(
    files: Files, jobs: Jobs, engine: Engine
) -> None:
    quota, start = Quota(stored_bytes=3 * SIZE), threading.Barrier(6)
    with writing(engine) as session:
        ensure_tenant(session, "acme")

    def evade(number: int) -> None:
        start.wait()
        for turn in range(3):
            try:
                file = put(files, content(chr(65 + 3 * number + turn)), quota=quota)
            except RateLimitExceeded:
                continue
            job_over(jobs, file)
            files.delete("acme", file)

    threads = [threading.Thread(target=evade, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(1 for _ in files.bytes.digests()) == 3
    assert stored(engine) == Stored(3 * SIZE, 3 * SIZE)


def test_every_state_of_a_job_either_keeps_bytes_or_is_its_end() -> None:
    assert {*quota_module.UNFINISHED} == {*get_args(State)} - ENDED


@pytest.mark.parametrize("shown", [quota_module._JOBS, quota_module._HOLDS, quota_module._CHECKPOINTS])
def test_the_quota_knows_the_tables_of_jobs_by_their_names(shown: TableClause) -> None:
    real = Base.metadata.tables[shown.name]
    assert {column.name for column in shown.columns} <= {column.name for column in real.columns}


def test_many_jobs_that_have_ended_are_not_read(jobs: Jobs, engine: Engine) -> None:
    """Checked on SQLite's plan, which has no statistics to depend on."""
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's plan depends on how many rows there are")
    query = quota_module._own("acme").select().compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = [row[-1] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    of_jobs = [step for step in plan if "jobs" in step.split()]
    assert len(of_jobs) == 2
    assert all("ix_jobs_tenant_state" in step for step in of_jobs), plan
    assert not [step for step in plan if step.startswith("SCAN") and "subquery" not in step.lower()], plan
