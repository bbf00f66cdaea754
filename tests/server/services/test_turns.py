"""A tenant's work waits behind its own, not ahead of others'; a caller that leaves holds up nobody."""

import asyncio

import pytest

from headmix_server.services.turns import TooManyWaiting, Turns


class Workers:
    """Callers that record when they were admitted, and work until told to stop."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self._stops: dict[str, asyncio.Event] = {}

    async def begin(self, name: str) -> asyncio.Task[None]:
        """Request a turn; the name's first letter is the tenant."""
        self._stops[name] = asyncio.Event()
        task = asyncio.create_task(self._work(name))
        await settled()
        return task

    async def end(self, name: str) -> None:
        self._stops[name].set()
        await settled()

    async def _work(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.order.append(name)
            await self._stops[name].wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def workers() -> Workers:
    return Workers(Turns(most_waiting=3))


async def test_a_tenants_uploads_wait_behind_each_other_and_not_before_others(workers: Workers) -> None:
    tasks = [await workers.begin(name) for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")]
    for done in range(7):
        assert len(workers.order) == done + 1  # one at a time
        await workers.end(workers.order[-1])
    assert workers.order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    await asyncio.gather(*tasks)
    assert workers.turns.waiting == 0


async def test_one_tenant_fills_only_its_own_queue(workers: Workers) -> None:
    tasks = [await workers.begin(f"a{number}") for number in range(4)]
    with pytest.raises(TooManyWaiting):
        await (await workers.begin("a5"))
    tasks.append(await workers.begin("b1"))
    for _ in tasks:
        await workers.end(workers.order[-1])
    await asyncio.gather(*tasks)
    assert "b1" in workers.order


@pytest.mark.parametrize("leaving", [("a1", "b1"), ("b1", "a1"), ("a1", "b1", "c1")])
async def test_callers_that_leave_at_the_same_moment_delay_no_other(workers: Workers, leaving: tuple[str, ...]) -> None:
    tasks = {name: await workers.begin(name) for name in ("a1", "b1", "c1", "d1")}
    for name in leaving:
        tasks[name].cancel()
    await settled()
    for name in ("c1", "d1")[len(leaving) - 2 :]:
        await workers.end(name)
    ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert [type(result) for result in ended if result is not None] == [asyncio.CancelledError] * len(leaving)
    assert workers.turns.waiting == 0
    again = await workers.begin("a2")
    await workers.end("a2")
    await again


async def test_places_are_shared_and_one_tenant_never_has_them_all() -> None:
    workers = Workers(Turns(at_once=3, most_each=2))
    tasks = [await workers.begin(name) for name in ("a1", "a2", "a3", "b1", "b2", "c1")]
    assert workers.order == ["a1", "a2", "b1"]  # the third place stayed free for another
    await workers.end("a1")
    assert workers.order[3:] == ["c1"]  # it has the least of those waiting
    for name in ("a2", "b1", "c1"):
        await workers.end(name)
    assert sorted(workers.order[4:]) == ["a3", "b2"]
    await workers.end("a3")
    await workers.end("b2")
    await asyncio.gather(*tasks)


async def test_a_caller_that_leaves_waiting_admitted_or_at_work_holds_up_nobody(workers: Workers) -> None:
    first, waiting, let_in, last = [await workers.begin(name) for name in ("a1", "b1", "c1", "d1")]
    waiting.cancel()
    await settled()
    first.cancel()  # the turn goes to c1, which leaves before it can take it
    await asyncio.sleep(0)
    let_in.cancel()
    await settled()
    assert workers.order == ["a1", "d1"]
    last.cancel()
    await asyncio.gather(first, waiting, let_in, last, return_exceptions=True)
    assert workers.turns.waiting == 0
    again = await workers.begin("a2")
    await workers.end("a2")
    await again
