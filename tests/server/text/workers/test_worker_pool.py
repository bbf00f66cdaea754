"""Whose turn it is, and what happens to a job that nobody waits for any more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from headmix_server.core.errors import ServerOverloaded
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.worker import Job
from headmix_server.text.workers.worker_pool import WorkerPool


@dataclass(frozen=True)
class Named:
    """A job that returns its name."""

    name: str

    def run(self, encoders: Encoders) -> str:
        return self.name


@dataclass
class StandIn:
    """A worker that finishes a job when told to."""

    begun: list[str] = field(default_factory=list)
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    killed: int = 0

    def run(self, job: Job) -> object:
        assert isinstance(job, Named)
        self.begun.append(job.name)
        self.go_on.acquire()
        if self.killed:
            raise ServerOverloaded("killed")
        return job.name

    def kill(self) -> None:
        self.killed += 1
        self.go_on.release()

    def close(self) -> None:
        pass


@asynccontextmanager
async def pool_of(*workers: StandIn, waiting_bytes: int = 1 << 30, seconds: float = 60.0) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(workers, waiting_bytes=waiting_bytes, seconds=seconds)
    try:
        yield pool
    finally:
        await pool.close()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - threads signal nothing
        await asyncio.sleep(0.001)


def ask(pool: WorkerPool, tenant: str, name: str, size: int = 1) -> "asyncio.Task[str]":
    return asyncio.create_task(pool.run(tenant, Named(name), size))


async def test_tenants_take_turns_however_much_one_of_them_has_waiting() -> None:
    worker = StandIn()
    async with pool_of(worker) as pool:
        flood = [ask(pool, "a", f"a{number}") for number in range(5)]
        await until(lambda: worker.begun == ["a0"])
        light = [ask(pool, "b", "b0"), ask(pool, "c", "c0"), ask(pool, "b", "b1")]
        await asyncio.sleep(0)
        for _ in range(8):
            worker.go_on.release()
        assert await asyncio.gather(*flood, *light) == ["a0", "a1", "a2", "a3", "a4", "b0", "c0", "b1"]
        assert worker.begun == ["a0", "a1", "b0", "c0", "a2", "b1", "a3", "a4"]


async def test_the_time_from_a_jobs_arrival_to_its_result_is_observed() -> None:
    worker, observed = StandIn(), list[float]()
    pool = WorkerPool([worker], observe=observed.append)
    asked = [ask(pool, "a", "a0"), ask(pool, "a", "a1")]
    await until(lambda: worker.begun == ["a0"])
    worker.go_on.release(2)
    await asyncio.gather(*asked)
    await pool.close()
    assert len(observed) == 2


async def test_no_tenant_has_all_workers() -> None:
    one, other = StandIn(), StandIn()
    async with pool_of(one, other) as pool:
        flood = [ask(pool, "a", f"a{number}") for number in range(3)]
        await until(lambda: one.begun + other.begun == ["a0"])
        light = ask(pool, "b", "b0")
        await until(lambda: one.begun + other.begun in [["a0", "b0"], ["b0", "a0"]])
        for worker in (one, other):
            for _ in range(3):
                worker.go_on.release()
        assert await asyncio.gather(light, *flood) == ["b0", "a0", "a1", "a2"]


async def test_a_caller_that_leaves_takes_its_waiting_job_along() -> None:
    worker = StandIn()
    async with pool_of(worker) as pool:
        running, waiting, last = ask(pool, "a", "a0"), ask(pool, "a", "a1"), ask(pool, "a", "a2")
        await until(lambda: worker.begun == ["a0"])
        waiting.cancel()
        running.cancel()
        await asyncio.sleep(0)
        assert pool.waiting == 1
        worker.go_on.release(2)
        assert await last == "a2"
        assert worker.begun == ["a0", "a2"]


async def test_beyond_the_bound_the_newest_of_the_tenant_with_most_is_refused() -> None:
    worker = StandIn()
    async with pool_of(worker, waiting_bytes=250_000) as pool:
        first = ask(pool, "z", "z0")
        await until(lambda: worker.begun == ["z0"])
        heavy = [ask(pool, "a", f"a{number}", 100_000) for number in range(2)]
        await asyncio.sleep(0)
        light = ask(pool, "b", "b0", 10_000)
        with pytest.raises(ServerOverloaded, match="Too much text"):
            await heavy[1]
        with pytest.raises(ServerOverloaded, match="Too much text"):
            await pool.run("c", Named("c0"), 1 << 30)
        worker.go_on.release(3)
        assert [await one for one in (first, heavy[0], light)] == ["z0", "a0", "b0"]


async def test_many_small_ones_are_bounded_too() -> None:
    worker = StandIn()
    async with pool_of(worker, waiting_bytes=1 << 20) as pool:
        asked = [ask(pool, "a", f"a{number}") for number in range(100)]
        await asyncio.sleep(0)
        assert 10 < pool.waiting < 70
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert pool.waiting == 0
        worker.go_on.release(100)


async def test_a_job_that_takes_too_long_is_ended_with_its_worker() -> None:
    worker = StandIn()
    async with pool_of(worker, seconds=0.05) as pool:
        with pytest.raises(ServerOverloaded, match="killed"):
            await pool.run("a", Named("a0"), 1)
        assert worker.killed == 1
