import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidRequest, RateLimitExceeded
from headmix_server.database import ensure_tenant, open_database, reading, writing
from headmix_server.files.references import keep_for_job
from headmix_server.files.tables import FileTombstoneRow
from headmix_server.jobs.claims import Claim, ClaimLostError, Claims
from headmix_server.jobs.job import Job, NewEvent
from headmix_server.jobs.jobs import Jobs
from tests.support.clocks.fake_clock import FakeClock

SECONDS = 8.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def jobs(engine: Engine, clock: FakeClock) -> Jobs:
    with writing(engine) as session:
        for tenant in ("acme", "other"):
            ensure_tenant(session, tenant)
    return Jobs(engine, clock=clock)


@pytest.fixture
def worker(engine: Engine, clock: FakeClock) -> Callable[..., Claims]:
    def make(name: str = "w", base: str | None = None) -> Claims:
        return Claims(engine, name, ["fine_tuning"], seconds=SECONDS, clock=clock, steady=clock, base=base)

    return make


def claimed(claims: Claims) -> Claim:
    claim = claims.claim()
    assert claim is not None
    return claim


def outlast(clock: FakeClock, watcher: Claims) -> None:
    """Let the watcher see claims unchanged for longer than they announced."""
    for _ in range(6):
        watcher.settle_abandoned()
        clock.now += SECONDS / 4


def test_a_job_is_claimed_once_and_its_events_say_by_whom(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claim = claimed(worker("left"))
    assert (claim.job.id, claim.job.state, claim.job.attempts) == (job.id, "running", 1)
    assert worker("right").claim() is None
    assert [event.message for event in jobs.events(job.id)] == ["Claimed by worker left, attempt 1 of 3."]


def test_a_worker_takes_jobs_of_its_kind_and_its_base_only(
    jobs: Jobs, worker: Callable[..., Claims], engine: Engine
) -> None:
    jobs.create("acme", "batch", "{}")
    ours = jobs.create("acme", "fine_tuning", "{}", base="ours")
    assert worker().claim() is None
    assert worker(base="theirs").claim() is None
    assert claimed(worker(base="ours")).job.id == ours.id
    assert claimed(Claims(engine, "server", ["batch"])).job.kind == "batch"


def test_the_tenant_that_has_had_least_comes_first(jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock) -> None:
    order: list[tuple[str, Job]] = []
    for tenant in ("acme", "acme", "acme", "other", "other"):
        order.append((tenant, jobs.create(tenant, "fine_tuning", "{}")))
        clock.now += 1
    claims = worker()
    first = claimed(claims)
    assert first.job.id == order[0][1].id
    assert claimed(claims).job.id == order[3][1].id  # acme's runs already
    claims.renew(first, worked=60.0)
    claims.end(first, "succeeded")
    claims.release(claimed(claims))
    assert claimed(claims).job.tenant == "acme"  # other's still runs


def test_time_spent_counts_for_a_day(jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock) -> None:
    jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    claims.renew(claim, worked=3600.0)
    claims.end(claim, "succeeded")
    jobs.create("acme", "fine_tuning", "{}")
    clock.now += 10
    jobs.create("other", "fine_tuning", "{}")
    second = claimed(claims)
    assert second.job.tenant == "other"
    claims.end(second, "succeeded")
    clock.now += 24 * 3600
    jobs.create("acme", "fine_tuning", "{}")
    clock.now += 10
    jobs.create("other", "fine_tuning", "{}")
    assert claimed(claims).job.tenant == "acme"


def test_two_workers_on_connections_of_their_own_never_take_one_job(jobs: Jobs, database_url: str) -> None:
    expected = Counter(jobs.create("acme", "fine_tuning", "{}").id for _ in range(24))
    barrier = threading.Barrier(4)

    def work(name: int) -> list[str]:
        own = open_database(database_url)
        claims, taken = Claims(own, f"w{name}", ["fine_tuning"]), []
        barrier.wait(timeout=60)
        while (claim := claims.claim()) is not None:
            taken.append(claim.job.id)
        own.dispose()
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job for worker in pool.map(work, range(4)) for job in worker]
    assert Counter(taken) == expected


def test_a_worker_that_falls_silent_loses_the_job_and_can_change_nothing_any_more(
    jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    silent, other = worker("silent"), worker("other")
    lost = claimed(silent)
    silent.add_checkpoint(lost, step=5, digest="d5", size_bytes=1)
    outlast(clock, other)
    taken = claimed(other)
    assert taken.job.id == job.id
    assert taken.owner != lost.owner
    before = jobs.get("acme", job.id), jobs.events(job.id), jobs.checkpoints(job.id)
    attempts: list[Callable[[], object]] = [
        lambda: silent.renew(lost, progress='{"step":9}'),
        lambda: silent.add_events(lost, [NewEvent("late")]),
        lambda: silent.add_checkpoint(lost, step=9, digest="d9", size_bytes=1),
        lambda: silent.end(lost, "publishing", result="{}"),
        lambda: silent.release(lost),
        lambda: silent.crashed(lost, "late"),
        lambda: silent.postpone(lost, "late"),
    ]
    for attempt in attempts:
        with pytest.raises(ClaimLostError):
            attempt()
    assert (jobs.get("acme", job.id), jobs.events(job.id), jobs.checkpoints(job.id)) == before
    assert "from step 5" in before[1][-1].message


def test_a_worker_that_renews_keeps_the_job_however_slow_it_is(
    jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock
) -> None:
    jobs.create("acme", "fine_tuning", "{}")
    slow, other = worker("slow"), worker("other")
    claim = claimed(slow)
    for _ in range(20):
        slow.renew(claim)
        for _ in range(3):
            assert other.claim() is None
            clock.now += SECONDS / 4
    assert slow.renew(claim) is None


def test_a_watcher_that_was_suspended_itself_does_not_take_the_job(
    jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock
) -> None:
    jobs.create("acme", "fine_tuning", "{}")
    owner, other = worker("owner"), worker("other")
    claim = claimed(owner)
    assert other.claim() is None
    clock.now += 100 * SECONDS
    assert other.claim() is None
    assert owner.renew(claim) is None


def test_a_job_that_gets_nobody_ahead_fails_with_the_reason(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    assert claims.crashed(claimed(claims), "Killed by signal 9.") == "queued"
    claim = claimed(claims)
    claims.add_checkpoint(claim, step=10, digest="d", size_bytes=1)  # it got ahead: counting starts again
    assert claims.crashed(claim, "Killed by signal 9.") == "queued"
    assert claims.crashed(claimed(claims), "Killed by signal 9.") == "queued"
    assert claims.crashed(claimed(claims), "Killed by signal 9.") == "failed"
    found = jobs.get("acme", job.id)
    assert found.error is not None
    assert json.loads(found.error)["message"] == "Killed by signal 9. That was attempt 3 of 3 without progress."
    assert claims.claim() is None


def test_giving_a_job_back_in_order_is_no_failed_attempt(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    for _ in range(5):
        assert claims.release(claimed(claims)) == "queued"
    assert jobs.get("acme", job.id).attempts == 0


def test_a_job_that_its_worker_cannot_do_waits_without_a_failed_attempt_and_says_once_why(
    jobs: Jobs, worker: Callable[..., Claims]
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claims.crashed(claimed(claims), "Killed by signal 9.")
    for reason in ("No bucket.", "No bucket.", "No disk.", "No bucket.", "No disk."):
        assert claims.postpone(claimed(claims), reason) == "queued"
    assert jobs.get("acme", job.id).attempts == 1
    messages = [event.message for event in jobs.events(job.id)]
    assert messages[3:] == ["The job waits: No bucket.", "The job waits: No disk."]
    claim = claimed(claims)
    assert (claim.has_waited, claim.job.attempts) == (True, 2)
    claims.add_events(claim, [NewEvent("It goes on.")])
    claims.postpone(claim, "No bucket.")
    assert [event.message for event in jobs.events(job.id)][5:] == ["It goes on.", "The job waits: No bucket."]


def test_a_wish_is_granted_when_a_job_is_postponed(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    jobs.want("acme", job.id, "cancel")
    assert claims.postpone(claim, "No bucket.") == "cancelled"


def test_a_worker_may_take_some_jobs_last(jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock) -> None:
    ids = list[str]()
    for _ in range(4):
        ids.append(jobs.create("acme", "fine_tuning", "{}").id)
        clock.now += 1
    claims, taken = worker(), list[str]()
    while (claim := claims.claim(last=[ids[1], ids[0]])) is not None:
        taken.append(claim.job.id)
    assert taken == [ids[2], ids[3], ids[1], ids[0]]


def test_what_the_tenant_wants_is_told_at_the_renewal_and_done_at_the_release(
    jobs: Jobs, worker: Callable[..., Claims]
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    jobs.want("acme", job.id, "pause")
    assert claims.renew(claim) == "pause"
    assert claims.add_events(claim, [NewEvent("at step 3")]) == "pause"
    assert claims.release(claim) == "paused"
    assert claims.claim() is None
    jobs.resume("acme", job.id)
    claim = claimed(claims)
    jobs.want("acme", job.id, "cancel")
    assert claims.release(claim) == "cancelled"
    with pytest.raises(InvalidRequest):
        jobs.resume("acme", job.id)


def test_a_wish_is_granted_even_if_the_worker_is_gone(
    jobs: Jobs, worker: Callable[..., Claims], clock: FakeClock
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claimed(worker("gone"))
    jobs.want("acme", job.id, "cancel")
    outlast(clock, worker("server"))
    assert jobs.get("acme", job.id).state == "cancelled"


def test_checkpoints_are_kept_as_told_and_released_at_the_end(
    jobs: Jobs, worker: Callable[..., Claims], engine: Engine
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    assert claims.last_checkpoint(claim) is None
    for step in (10, 20, 30):
        claims.add_checkpoint(claim, step=step, digest=f"d{step}", size_bytes=step, metrics="{}", keep=2)
    newest = claims.last_checkpoint(claim)
    assert newest is not None
    assert newest.digest == "d30"
    kept = [(point.step, point.digest) for point in jobs.checkpoints(job.id)]
    assert kept == [(30, "d30"), (20, "d20"), (10, None)]
    second = jobs.checkpoints(job.id, after=jobs.checkpoints(job.id)[0].id, limit=1)
    assert [point.step for point in second] == [20]
    claims.end(claim, "publishing", result="{}", events=[NewEvent("trained")])
    assert {point.digest for point in jobs.checkpoints(job.id)} == {"d30", "d20", None}
    assert buried(engine) == {"d10"}
    jobs.move(job.id, before=["publishing"], after="succeeded")
    assert {point.digest for point in jobs.checkpoints(job.id)} == {None}
    assert buried(engine) == {"d10", "d20", "d30"}


def buried(engine: Engine) -> set[str]:
    """Return the digests of bytes that are to be removed."""
    with reading(engine) as session:
        return set(session.scalars(select(FileTombstoneRow.digest)))


def test_a_job_that_ends_lets_go_of_its_files(jobs: Jobs, worker: Callable[..., Claims], engine: Engine) -> None:
    def hold(session: Session, job_id: str) -> None:
        keep_for_job(session, {"data": 4}, job=job_id)

    claims = worker()
    for _ in range(2):
        jobs.create("acme", "fine_tuning", "{}", in_transaction=hold)
    claims.end(claimed(claims), "failed")
    assert buried(engine) == set()
    claims.end(claimed(claims), "failed")
    assert buried(engine) == {"data"}


def test_a_job_cancelled_before_its_result_is_handed_over_is_not_published(
    jobs: Jobs, worker: Callable[..., Claims]
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    jobs.want("acme", job.id, "cancel")
    assert claims.end(claim, "publishing", result="{}") == "cancelled"
    assert jobs.get("acme", job.id).result is None


def test_a_job_trained_before_it_could_be_paused_is_published(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)
    jobs.want("acme", job.id, "pause")
    assert claims.end(claim, "publishing", result="{}") == "publishing"
    assert jobs.get("acme", job.id).wanted is None


def test_what_a_renewal_takes_along_is_written_with_it_or_not_at_all(
    jobs: Jobs, worker: Callable[..., Claims], engine: Engine
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    claims = worker()
    claim = claimed(claims)

    def fail(_: Session) -> None:
        raise RateLimitExceeded("no")

    with pytest.raises(RateLimitExceeded):
        claims.renew(claim, worked=5.0, within=fail)
    assert jobs.get("acme", job.id).worked == 0.0
    claims.renew(claim, worked=5.0, within=lambda session: keep_for_job(session, {"x": 1}, job=job.id))
    assert jobs.get("acme", job.id).worked == 5.0


def test_a_job_waits_for_a_worker_of_its_kind_and_base(jobs: Jobs, worker: Callable[..., Claims]) -> None:
    assert not jobs.waits(["fine_tuning"], "ours")
    jobs.create("acme", "fine_tuning", "{}", base="ours")
    assert jobs.waits(["fine_tuning"], "ours")
    assert not jobs.waits(["fine_tuning"], "theirs")
    assert not jobs.waits(["batch"], "ours")
    claimed(worker(base="ours"))
    assert not jobs.waits(["fine_tuning"], "ours")
