import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from headmix_server.core.errors import StorageUnavailable
from headmix_server.fine_tuning.progress import Progress, read_progress
from headmix_server.jobs.claims import Claim, Claims
from headmix_server.jobs.job import Job
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.job.attempt import Workshop
from headmix_server.training.job.keeper import ClaimKeeper


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def claim(queue: Callable[[], Job], claims: Claims) -> Claim:
    queue()
    found = claims.claim()
    assert found is not None
    return found


@pytest.fixture
def claims(shop: Callable[..., Workshop]) -> Claims:
    return shop().claims


def wait_until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.01)


def test_a_claim_is_renewed_steadily_and_the_tenants_wish_noticed(claims: Claims, claim: Claim, jobs: Jobs) -> None:
    keeper = ClaimKeeper(claims, claim, adapter="tone", seconds=0.04)
    with keeper.kept():
        wait_until(lambda: jobs.get("acme", claim.job.id).beats > claim.job.beats + 3)
        jobs.want("acme", claim.job.id, "pause")
        wait_until(lambda: keeper.wanted == "pause")


def test_an_outage_of_the_database_is_outlasted(
    claims: Claims, claim: Claim, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, failures = Claims.renew, [0]

    def away(self: Claims, *arguments: Any, **named: Any) -> Any:
        failures[0] += 1
        if failures[0] < 3:
            raise StorageUnavailable("away")
        return renew(self, *arguments, **named)

    monkeypatch.setattr(Claims, "renew", away)
    keeper = ClaimKeeper(claims, claim, adapter="tone", seconds=0.04)
    keeper.progress = Progress(step=3, trained_tokens=30)
    with keeper.kept():
        wait_until(lambda: read_progress(jobs.get("acme", claim.job.id).progress).step == 3)
    assert not keeper.lost.is_set()


def test_a_lost_claim_is_noticed(claims: Claims, claim: Claim, engine: Engine) -> None:
    keeper = ClaimKeeper(claims, claim, adapter="tone", seconds=0.04)
    claims.release(claim)
    with keeper.kept():
        assert keeper.lost.wait(60)


def test_time_in_which_the_training_was_suspended_is_not_work(claims: Claims, claim: Claim, jobs: Jobs) -> None:
    working = False
    keeper = ClaimKeeper(claims, claim, adapter="tone", seconds=60, is_working=lambda: working)
    keeper.renew()
    assert jobs.get("acme", claim.job.id).worked == 0.0
    working = True
    keeper.renew()
    assert jobs.get("acme", claim.job.id).worked > 0.0
