"""Rates with both storages: this process's memory and a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from limits.aio.storage import MemoryStorage

from headmix_server.tenancy.limits.rates import Rates, RateStorageError, Verdict, open_storage
from tests.support.clocks.fake_clock import FakeClock
from tests.support.storage.redis_server import RedisServer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "redis"])
def storage_url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "memory":
        return None
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


@pytest.fixture
def failures() -> list[int]:
    return []


@pytest.fixture
async def rates(storage_url: str | None, clock: FakeClock, failures: list[int]) -> AsyncIterator[Rates]:
    shared = None if storage_url is None else open_storage(storage_url)
    rates = Rates(shared, clock=clock, on_fallback=lambda: failures.append(1))
    yield rates
    await rates.aclose()
    assert failures == []


async def take(rates: Rates, cost: int = 1, limit: int = 3) -> Verdict:
    return await rates.take("acme", "requests", cost, limit)


@pytest.mark.parametrize("begin", [0.0, 13.25, 59.999])
async def test_the_reported_wait_is_enough_and_a_second_less_is_not(
    rates: Rates, clock: FakeClock, begin: float
) -> None:
    clock.now += begin
    for _ in range(3):
        assert (await take(rates)).charge is not None
        clock.now += 1.5
    refused = await take(rates)
    assert refused.charge is None
    assert refused.remaining == 0
    seconds = -(-refused.wait // 1000)
    clock.now += seconds - 1
    assert (await take(rates)).charge is None
    clock.now += 1
    assert (await take(rates)).charge is not None


async def test_a_refused_cost_is_not_counted(rates: Rates) -> None:
    assert (await take(rates, 2)).remaining == 1
    for _ in range(5):
        assert (await take(rates, 2)).charge is None
    assert (await take(rates, 1)).remaining == 0


async def test_what_is_given_back_can_be_taken_again_also_a_minute_later(rates: Rates, clock: FakeClock) -> None:
    taken = await take(rates, 100, 100)
    assert taken.charge is not None
    clock.now += 60
    assert (await take(rates, 60, 100)).charge is None
    await rates.give_back(taken.charge, 90)
    assert (await take(rates, 90, 100)).charge is not None


async def test_the_limit_is_all_there_again_at_the_reset(rates: Rates, clock: FakeClock) -> None:
    clock.now += 17
    reset = (await take(rates, 2)).reset
    clock.now += reset / 1000 - 1
    assert (await take(rates, 3)).charge is None
    clock.now += 1
    assert (await take(rates, 3)).charge is not None


async def test_many_at_once_take_no_more_than_the_limit(rates: Rates) -> None:
    verdicts = await asyncio.gather(*(take(rates, 7, 100) for _ in range(60)))
    assert 1 <= sum(verdict.charge is not None for verdict in verdicts) <= 14


async def test_tenants_and_kinds_have_windows_of_their_own(rates: Rates) -> None:
    assert (await rates.take("acme", "requests", 1, 1)).charge is not None
    assert (await rates.take("acme", "tokens", 1, 1)).charge is not None
    assert (await rates.take("other", "requests", 1, 1)).charge is not None
    assert (await rates.take("acme", "requests", 1, 1)).charge is None


@pytest.fixture
def two_servers(redis: RedisServer, clock: FakeClock) -> tuple[Rates, Rates]:
    return (Rates(open_storage(redis.url), clock=clock), Rates(open_storage(redis.url), clock=clock))


async def test_servers_with_one_redis_share_a_tenants_minute(two_servers: tuple[Rates, Rates]) -> None:
    one, other = two_servers
    verdicts = await asyncio.gather(*(take(rates, 1, 20) for rates in two_servers for _ in range(30)))
    taken = sum(verdict.charge is not None for verdict in verdicts)
    assert 1 <= taken <= 20
    assert (await take(other, 1, 20)).remaining <= 20 - taken
    await one.aclose()
    await other.aclose()


async def test_while_redis_is_unavailable_a_server_counts_for_itself_and_logs_it(
    redis: RedisServer, clock: FakeClock, failures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headmix_server.tenancy.limits.rates.RETRY_SECONDS", 0.0)
    rates = Rates(open_storage(redis.url), clock=clock, on_fallback=lambda: failures.append(1))
    shared = await take(rates)
    assert shared.charge is not None
    redis.stop()
    assert [(await take(rates)).charge is not None for _ in range(4)] == [True, True, True, False]
    assert len(failures) == 4
    await rates.give_back(shared.charge, 1)
    redis.start()
    assert (await take(rates)).remaining == 2
    assert len(failures) == 5
    await rates.aclose()


async def test_a_redis_that_failed_is_not_tried_again_for_a_while(redis: RedisServer, clock: FakeClock) -> None:
    failures: list[int] = []
    rates = Rates(open_storage(redis.url), clock=clock, on_fallback=lambda: failures.append(1))
    redis.stop()
    await take(rates, limit=1000)
    for _ in range(50):
        await take(rates, limit=1000)
    assert len(failures) <= 5
    await rates.aclose()


@pytest.mark.parametrize("url", ["memory://", "http://host", "nonsense", "redisx://host"])
def test_an_unknown_storage_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(RateStorageError) as refused:
        open_storage(url.replace("host", "user:secret@host"))
    assert "secret" not in str(refused.value)


async def test_no_fault_of_the_shared_storage_whatever_its_kind_fails_a_request(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    shared = open_storage("redis://127.0.0.1:1/0")

    async def fails(*_: object) -> int:
        raise RuntimeError("nobody's")

    monkeypatch.setattr(type(shared), "get", fails)
    rates = Rates(shared, clock=clock, on_fallback=lambda: failures.append(1))
    assert (await take(rates)).charge is not None
    assert failures == [1]
    await rates.aclose()


async def test_a_minute_has_sixty_seconds(clock: FakeClock) -> None:
    rates = Rates(clock=clock)
    clock.now += 17
    await take(rates, 3)
    clock.now += 1
    first = await take(rates)
    clock.now += 1
    assert first.reset - (await take(rates)).reset == 1000


class Raced(MemoryStorage):
    """A shared storage in which another server uses up the limit between the check and the increment."""

    async def get(self, key: str) -> int:
        return 0


async def test_what_another_server_took_in_between_is_refused_and_given_back_whole(clock: FakeClock) -> None:
    shared = Raced()
    one, other = (Rates(shared, clock=clock) for _ in range(2))
    assert (await take(one, 3)).charge is not None
    refused = await take(other, 2)
    assert refused.charge is None
    assert refused.remaining == 0
    assert refused.wait >= 1
    assert max(shared.storage.values()) == 3


async def test_what_is_given_back_to_a_shared_storage_is_there_for_all(clock: FakeClock) -> None:
    shared = MemoryStorage()
    one, other = (Rates(shared, clock=clock) for _ in range(2))
    taken = await take(one, 3)
    assert taken.charge is not None
    await one.give_back(taken.charge, 2)
    assert (await take(other, 2)).charge is not None
