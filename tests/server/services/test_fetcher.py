"""Downloads: tenants take turns, requests for the same artifact share one, and nothing is downloaded for nobody."""

import asyncio

import pytest

from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.core.errors import StorageUnavailable
from headmix_server.services.fetcher import Fetcher


class SlowStore(ArtifactStore):
    """Downloads only what a test releases; a digest's first letter is its tenant."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self._ends: dict[str, asyncio.Future[None]] = {}

    def is_local(self, digest: str) -> bool:
        return digest == "local"

    async def download(self, digest: str) -> None:
        self.begun.append(digest)
        self._ends[digest] = asyncio.get_running_loop().create_future()
        try:
            await self._ends[digest]
        except asyncio.CancelledError:
            self.cancelled.append(digest)
            raise

    async def end(self, digest: str, error: Exception | None = None) -> None:
        if error is None:
            self._ends.pop(digest).set_result(None)
        else:
            self._ends.pop(digest).set_exception(error)
        await settled()


class Askers:
    """Requests artifacts concurrently."""

    def __init__(self, at_once: int = 1) -> None:
        self.store = SlowStore()
        self.fetcher = Fetcher(self.store, at_once)

    async def ask(self, digest: str, tenant: str = "") -> asyncio.Task[None]:
        task = asyncio.create_task(self.fetcher.download(digest, tenant or digest[0]))
        await settled()
        return task


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def leave(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settled()


async def test_a_local_artifact_is_not_waited_for() -> None:
    askers = Askers()
    await askers.ask("a1")
    await askers.fetcher.download("local", "a")
    assert askers.store.begun == ["a1"]


async def test_tenants_take_turns_and_none_has_every_place() -> None:
    askers = Askers(at_once=2)
    tasks = [await askers.ask(digest) for digest in ("a1", "a2", "a3", "b1", "c1")]
    assert askers.store.begun == ["a1", "b1"]
    await askers.store.end("b1")
    assert askers.store.begun[2:] == ["c1"]
    for digest in ("a1", "a2", "c1", "a3"):
        await askers.store.end(digest)
    await asyncio.gather(*tasks)
    assert askers.fetcher.waiting == 0


async def test_all_requests_for_one_artifact_wait_for_one_download_and_get_its_error() -> None:
    askers = Askers()
    tasks = [await askers.ask("x", tenant) for tenant in ("a", "a", "b")]
    assert askers.store.begun == ["x"]
    await askers.store.end("x", StorageUnavailable("away"))
    assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [StorageUnavailable] * 3
    again = await askers.ask("x", "a")
    await askers.store.end("x")
    await again
    assert askers.store.begun == ["x", "x"]


async def test_a_download_without_waiters_is_cancelled_and_frees_its_slot() -> None:
    askers = Askers()
    first, second, waiting, other = [await askers.ask(digest, digest[0]) for digest in ("a1", "a1", "a2", "b1")]
    await leave(first)
    assert askers.store.cancelled == []
    await leave(waiting)
    await leave(second)
    assert (askers.store.cancelled, askers.store.begun) == (["a1"], ["a1", "b1"])
    again = await askers.ask("a1")
    await askers.store.end("b1")
    await askers.store.end("a1")
    await asyncio.gather(other, again)
    assert askers.fetcher.waiting == 0


async def test_a_second_requester_of_a_queued_artifact_waits_in_its_own_line() -> None:
    askers = Askers()
    busy = await askers.ask("a0")
    line = [await askers.ask(f"a{number}") for number in range(1, 10)]
    wanted = await askers.ask("a9", "b")
    await askers.store.end("a0")
    assert askers.store.begun == ["a0", "a9"]
    await leave(line[-1])  # the first requester has left; the other still waits
    await askers.store.end("a9")
    await asyncio.gather(busy, wanted)
    await leave(*line)
    assert askers.fetcher.waiting == 0


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_tenant_that_leaves_gives_up_only_its_own_queue(leaver: int) -> None:
    askers = Askers()
    busy = await askers.ask("z")
    asking = [await askers.ask("x", tenant) for tenant in ("a", "b")]
    assert askers.fetcher.waiting == 2
    await leave(asking.pop(leaver))
    assert askers.fetcher.waiting == 1
    await askers.store.end("z")
    await askers.store.end("x")
    await asyncio.gather(busy, *asking)
