"""Any order of what tenants and workers do leaves the jobs as a simple model in memory says."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_server.core.errors import InvalidRequest
from headmix_server.database import ensure_tenant, open_database, writing
from headmix_server.jobs.claims import Claim, ClaimLostError, Claims
from headmix_server.jobs.jobs import Jobs
from tests.support.clocks.fake_clock import FakeClock

SECONDS, MOST = 8.0, 2
TENANTS = ("acme", "other")
REACHED = {"cancel": "cancelled", "pause": "paused"}

Act = Callable[[], object]
ClaimAct = Callable[[Claims, Claim, "ModelJob"], None]


@dataclass
class ModelJob:
    tenant: str
    state: str = "queued"
    wanted: str | None = None
    owner: int | None = None
    attempts: int = 0
    worked: float = 0.0
    step: int = 0


@dataclass
class Model:
    """Jobs by number in the order of creation; claims are numbers as well."""

    jobs: list[ModelJob] = field(default_factory=list)

    def next(self) -> int | None:
        def had(tenant: str) -> tuple[int, float]:
            theirs = [job for job in self.jobs if job.tenant == tenant]
            return sum(job.state == "running" for job in theirs), sum(job.worked for job in theirs)

        queued = [number for number, job in enumerate(self.jobs) if job.state == "queued"]
        return min(queued, key=lambda number: (*had(self.jobs[number].tenant), number), default=None)

    def stop(self, job: ModelJob, *, crashed: bool) -> None:
        job.owner = None
        if crashed and job.wanted is None and job.attempts >= MOST:
            job.state = "failed"
            return
        job.state = "queued" if job.wanted is None else REACHED[job.wanted]
        job.wanted = None
        if not crashed:
            job.attempts = 0

    def want(self, job: ModelJob, wanted: str) -> bool:
        if job.state == REACHED[wanted] or job.wanted == wanted:
            return True
        if job.state == "queued" or (job.state, wanted) == ("paused", "cancel"):
            job.state = REACHED[wanted]
        elif job.state == "running" and job.wanted != "cancel":
            job.wanted = wanted
        else:
            return False
        return True

    def resume(self, job: ModelJob) -> bool:
        if job.state in ("succeeded", "failed", "cancelled") or job.wanted == "cancel":
            return False
        job.wanted = None
        if job.state == "paused":
            job.state = "queued"
        return True


class World:
    """The model beside the real thing, on one database."""

    def __init__(self, path: str) -> None:
        self.engine = open_database(path)
        self.clock = FakeClock()
        with writing(self.engine) as session:
            for tenant in TENANTS:
                ensure_tenant(session, tenant)
        self.jobs = Jobs(self.engine, clock=self.clock)
        self.workers = [self._worker("left"), self._worker("right")]
        self.watcher = self._worker("watcher")
        self.model = Model()
        self.ids: list[str] = []
        self.claims: list[tuple[Claims, Claim]] = []

    def _worker(self, name: str) -> Claims:
        return Claims(
            self.engine,
            name,
            ["fine_tuning"],
            seconds=SECONDS,
            most_attempts=MOST,
            clock=self.clock,
            steady=self.clock,
        )

    def create(self, chance: int) -> None:
        self.clock.now += 1
        tenant = TENANTS[chance % 2]
        self.ids.append(self.jobs.create(tenant, "fine_tuning", "{}").id)
        self.model.jobs.append(ModelJob(tenant))

    def claim(self, chance: int) -> None:
        worker = self.workers[chance % 2]
        claim, expected = worker.claim(), self.model.next()
        if expected is None:
            assert claim is None
            return
        assert claim is not None
        assert claim.job.id == self.ids[expected]
        job = self.model.jobs[expected]
        job.state, job.owner, job.attempts = "running", len(self.claims), job.attempts + 1
        self.claims.append((worker, claim))

    def renew(self, chance: int) -> None:
        def act(worker: Claims, claim: Claim, job: ModelJob) -> None:
            assert worker.renew(claim, worked=3.0) == job.wanted
            job.worked += 3.0

        self._with_claim(chance, act)

    def checkpoint(self, chance: int) -> None:
        def act(worker: Claims, claim: Claim, job: ModelJob) -> None:
            worker.add_checkpoint(claim, step=job.step + 1, digest="d", size_bytes=1)
            job.step, job.attempts = job.step + 1, 1

        self._with_claim(chance, act)

    def release(self, chance: int) -> None:
        def act(worker: Claims, claim: Claim, job: ModelJob) -> None:
            reached = worker.release(claim)
            self.model.stop(job, crashed=False)
            assert reached == job.state

        self._with_claim(chance, act)

    def crash(self, chance: int) -> None:
        def act(worker: Claims, claim: Claim, job: ModelJob) -> None:
            reached = worker.crashed(claim, "It crashed.")
            self.model.stop(job, crashed=True)
            assert reached == job.state

        self._with_claim(chance, act)

    def end(self, chance: int) -> None:
        def act(worker: Claims, claim: Claim, job: ModelJob) -> None:
            worker.end(claim, "succeeded", result="{}")
            job.state, job.wanted, job.owner = "succeeded", None, None

        self._with_claim(chance, act)

    def fall_silent(self, chance: int) -> None:
        """Let one claim go unrenewed for so long that others find its worker gone."""
        held = [number for number, job in enumerate(self.model.jobs) if job.owner is not None]
        if not held:
            return
        silent = held[chance % len(held)]
        for _ in range(6):
            for job in self.model.jobs:
                if job.owner is not None and job is not self.model.jobs[silent]:
                    worker, claim = self.claims[job.owner]
                    worker.renew(claim)
            self.watcher.settle_abandoned()
            self.clock.now += SECONDS / 4
        self.model.stop(self.model.jobs[silent], crashed=True)

    def cancel(self, chance: int) -> None:
        self._ask(chance, "cancel")

    def pause(self, chance: int) -> None:
        self._ask(chance, "pause")

    def resume(self, chance: int) -> None:
        if self.ids:
            number = chance % len(self.ids)
            job = self.model.jobs[number]
            allowed = self.model.resume(job)
            self._expect(lambda: self.jobs.resume(job.tenant, self.ids[number]), allowed=allowed)

    def check(self) -> None:
        """Compare every job with the model's."""
        for job_id, expected in zip(self.ids, self.model.jobs, strict=True):
            job = self.jobs.get(expected.tenant, job_id)
            found = (job.state, job.wanted, job.attempts, job.worked, job.owner is None)
            assert found == (
                expected.state,
                expected.wanted,
                expected.attempts,
                expected.worked,
                expected.owner is None,
            )
            if expected.owner is not None:
                assert job.owner == self.claims[expected.owner][1].owner
            numbers = [event.number for event in self.jobs.events(job_id, limit=1000)]
            assert numbers == list(range(1, len(numbers) + 1))

    def _ask(self, chance: int, wanted: str) -> None:
        if self.ids:
            number = chance % len(self.ids)
            job = self.model.jobs[number]
            allowed = self.model.want(job, wanted)
            self._expect(
                lambda: self.jobs.want(job.tenant, self.ids[number], wanted),  # type: ignore[arg-type]
                allowed=allowed,
            )

    def _expect(self, act: Act, *, allowed: bool) -> None:
        if allowed:
            act()
        else:
            with pytest.raises(InvalidRequest):
                act()

    def _with_claim(self, chance: int, act: ClaimAct) -> None:
        """Act with any claim there ever was; with one that has been lost, nothing changes."""
        if not self.claims:
            return
        number = chance % len(self.claims)
        worker, claim = self.claims[number]
        job = self.model.jobs[self.ids.index(claim.job.id)]
        if job.owner == number:
            act(worker, claim, job)
        else:
            with pytest.raises(ClaimLostError):
                act(worker, claim, job)


OPERATIONS = (
    "create",
    "claim",
    "claim",
    "renew",
    "checkpoint",
    "release",
    "crash",
    "end",
    "fall_silent",
    "cancel",
    "pause",
    "resume",
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20)), min_size=5, max_size=40))
def test_jobs_are_as_the_model_says(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]]
) -> None:
    world = World(str(tmp_path_factory.mktemp("jobs") / "headmix.db"))
    for name, chance in operations:
        getattr(world, name)(chance)
        world.check()
    world.engine.dispose()
