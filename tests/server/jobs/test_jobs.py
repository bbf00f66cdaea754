import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidRequest, NotFound, RateLimitExceeded
from headmix_server.database import ensure_tenant, writing
from headmix_server.jobs.claims import Claims
from headmix_server.jobs.job import Job, NewEvent, State, Wanted
from headmix_server.jobs.jobs import Jobs
from tests.support.clocks.fake_clock import FakeClock

ENDS: tuple[State, ...] = ("succeeded", "failed", "cancelled")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def jobs(engine: Engine, clock: FakeClock) -> Jobs:
    with writing(engine) as session:
        for tenant in ("acme", "other"):
            ensure_tenant(session, tenant)
    return Jobs(engine, clock=clock)


def messages(jobs: Jobs, job: Job) -> list[str]:
    return [event.message for event in jobs.events(job.id, limit=100)]


def test_a_job_is_queued_with_its_request_and_belongs_to_its_tenant(jobs: Jobs, clock: FakeClock) -> None:
    job = jobs.create("acme", "fine_tuning", '{"x":1}', base="b")
    assert job.id.startswith("ftjob-")
    assert (job.state, job.request, job.base, job.created) == ("queued", '{"x":1}', "b", int(clock.now))
    assert jobs.get("acme", job.id) == job
    assert jobs.create("acme", "batch", "{}").id.startswith("batch_")


def test_a_tenant_begins_with_its_first_job(engine: Engine) -> None:
    jobs = Jobs(engine)
    assert jobs.get("new", jobs.create("new", "batch", "{}").id).tenant == "new"


def test_another_tenants_job_does_not_exist(jobs: Jobs) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    for ask in (jobs.get, jobs.resume):
        with pytest.raises(NotFound, match=job.id):
            ask("other", job.id)
    with pytest.raises(NotFound):
        jobs.want("other", job.id, "cancel")
    assert jobs.list("other", "fine_tuning") == ()
    with pytest.raises(InvalidRequest) as refused:
        jobs.list("other", "fine_tuning", after=job.id)
    assert refused.value.param == "after"


def test_a_refusal_within_the_transaction_creates_nothing(jobs: Jobs) -> None:
    def full(session: Session, job_id: str) -> None:
        del session, job_id
        raise RateLimitExceeded("too many jobs")

    with pytest.raises(RateLimitExceeded):
        jobs.create("acme", "fine_tuning", "{}", in_transaction=full)
    assert jobs.list("acme", "fine_tuning") == ()


def test_pages_of_a_list_are_newest_first_and_miss_none_of_the_same_second(jobs: Jobs, clock: FakeClock) -> None:
    created = []
    for number in range(7):
        clock.now += number % 2
        created.append(jobs.create("acme", "fine_tuning", "{}"))
    jobs.create("acme", "batch", "{}")
    listed: list[Job] = []
    while page := jobs.list("acme", "fine_tuning", after=listed[-1].id if listed else None, limit=2):
        listed += page
    assert listed == sorted(created, key=lambda job: (job.created, job.id), reverse=True)


@pytest.mark.parametrize(("wanted", "reached"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_wish_is_granted_at_once_while_nobody_works_on_the_job(jobs: Jobs, wanted: Wanted, reached: State) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    assert jobs.want("acme", job.id, wanted).state == reached
    assert jobs.want("acme", job.id, wanted).state == reached
    assert messages(jobs, job) == [f"The job is {reached}."]


def test_a_running_job_is_told_and_cancelling_overrides_pausing(jobs: Jobs, engine: Engine) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    Claims(engine, "w", ["fine_tuning"]).claim()
    assert jobs.want("acme", job.id, "pause").wanted == "pause"
    assert jobs.resume("acme", job.id).wanted is None
    for wanted in ("pause", "cancel"):
        assert jobs.want("acme", job.id, wanted).state == "running"
    assert jobs.get("acme", job.id).wanted == "cancel"
    with pytest.raises(InvalidRequest, match="about to be cancelled"):
        jobs.want("acme", job.id, "pause")
    with pytest.raises(InvalidRequest, match="about to be cancelled"):
        jobs.resume("acme", job.id)


@pytest.mark.parametrize("state", ENDS)
def test_an_ended_job_can_be_neither_paused_nor_resumed(jobs: Jobs, state: State) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    assert jobs.move(job.id, before=["queued"], after=state)
    assert jobs.get("acme", job.id).has_ended
    with pytest.raises(InvalidRequest, match=state):
        jobs.want("acme", job.id, "pause")
    with pytest.raises(InvalidRequest, match=state):
        jobs.resume("acme", job.id)


def test_a_job_that_is_being_validated_can_be_cancelled_and_the_validation_then_changes_nothing(jobs: Jobs) -> None:
    job = jobs.create("acme", "fine_tuning", "{}", state="validating")
    with pytest.raises(InvalidRequest, match="validating"):
        jobs.want("acme", job.id, "pause")
    jobs.want("acme", job.id, "cancel")
    assert not jobs.move(job.id, before=["validating"], after="queued", request='{"resolved":true}')
    found = jobs.get("acme", job.id)
    assert (found.state, found.request) == ("cancelled", "{}")


def test_a_paused_job_goes_back_to_the_queue(jobs: Jobs) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    jobs.want("acme", job.id, "pause")
    assert jobs.resume("acme", job.id).state == "queued"
    assert jobs.resume("acme", job.id).state == "queued"
    assert messages(jobs, job) == ["The job is paused.", "The job is resumed."]


def test_the_server_moves_a_job_once_and_never_one_that_a_worker_holds(
    jobs: Jobs, engine: Engine, clock: FakeClock
) -> None:
    job = jobs.create("acme", "fine_tuning", "{}", state="validating")
    assert jobs.move(job.id, before=["validating"], after="queued", request='{"a":1}', event=NewEvent("valid"))
    assert not jobs.move(job.id, before=["validating"], after="failed")
    claims = Claims(engine, "w", ["fine_tuning"], clock=clock)
    claim = claims.claim()
    assert claim is not None
    assert not jobs.move(job.id, before=["running"], after="failed")
    claims.end(claim, "publishing", result='{"digest":"d"}')
    assert [found.id for found in jobs.in_states("fine_tuning", ["publishing"])] == [job.id]
    assert jobs.get("acme", job.id).result == '{"digest":"d"}'
    with pytest.raises(InvalidRequest, match="publishing"):
        jobs.want("acme", job.id, "pause")
    clock.now += 5
    assert jobs.move(job.id, before=["publishing"], after="succeeded", result='{"model":"m"}')
    found = jobs.get("acme", job.id)
    assert (found.state, found.result, found.finished) == ("succeeded", '{"model":"m"}', int(clock.now))


def test_a_job_that_waits_to_be_published_can_be_cancelled_and_is_then_not_published(jobs: Jobs) -> None:
    job = jobs.create("acme", "fine_tuning", "{}", state="publishing")
    assert jobs.want("acme", job.id, "cancel").state == "cancelled"
    assert not jobs.move(job.id, before=["publishing"], after="succeeded")


def test_each_tenants_oldest_job_in_a_state_is_found_however_many_jobs_another_tenant_has(
    jobs: Jobs, clock: FakeClock
) -> None:
    first = jobs.create("acme", "fine_tuning", "{}", state="validating")
    clock.now += 1
    for _ in range(120):
        jobs.create("acme", "fine_tuning", "{}", state="validating")
    clock.now += 1
    other = jobs.create("other", "fine_tuning", "{}", state="validating")
    jobs.create("other", "fine_tuning", "{}", state="publishing")
    jobs.create("other", "batch", "{}", state="validating")
    turns = jobs.oldest_of_each_tenant("fine_tuning", "validating")
    assert [(job.tenant, job.id) for job in turns] == [("acme", first.id), ("other", other.id)]
    without = jobs.oldest_of_each_tenant("fine_tuning", "validating", without=[other.id, first.id])
    assert [job.tenant for job in without] == ["acme"]
    assert without[0].id != first.id


def test_counts_are_by_kind_and_state_without_what_has_ended(jobs: Jobs) -> None:
    for state in ("queued", "queued", "validating", "failed"):
        jobs.create("acme", "fine_tuning", "{}", state=state)
    jobs.create("other", "batch", "{}")
    assert jobs.counts() == {("fine_tuning", "queued"): 2, ("fine_tuning", "validating"): 1, ("batch", "queued"): 1}


def test_events_are_numbered_without_a_gap_and_paged_from_either_end(jobs: Jobs) -> None:
    job = jobs.create("acme", "fine_tuning", "{}")
    for step in range(1, 6):
        jobs.add_event(job.id, NewEvent(f"step {step}", type="metrics", data=f'{{"step":{step}}}'))
    assert [event.number for event in jobs.events(job.id, after=2, limit=2)] == [3, 4]
    newest = jobs.events(job.id, limit=2, newest_first=True)
    assert [event.number for event in newest] == [5, 4]
    assert [event.number for event in jobs.events(job.id, after=4, newest_first=True)] == [3, 2, 1]
    assert (newest[0].type, newest[0].data) == ("metrics", '{"step":5}')
