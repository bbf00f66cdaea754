"""Each kind of work has its own threads."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.server.api_rig import BASE, ApiRig
from headmix_server.api.threads import (
    MANAGEMENT_THREADS,
    MANAGEMENT_THREADS_OF_A_TENANT,
    STORING_THREADS,
    Threads,
)
from tests.support.clocks.waiting import until


async def test_keys_are_checked_and_models_asked_while_sixty_changes_wait_for_the_write_lock(rig: ApiRig) -> None:
    rig.publish("tone")
    with sqlite3.connect(rig.state.settings.data_dir / "headmix.db", isolation_level=None) as other_writer:
        other_writer.execute("BEGIN IMMEDIATE")
        changes = [
            asyncio.ensure_future(client.put("/v1/adapters/tone/sharing", json={"everyone": True}))
            for client in (rig.client, rig.other)
            for _ in range(30)
        ]
        _, waiting = await asyncio.wait(changes, timeout=0.5)
        assert len(waiting) >= 30
        for client, model in ((rig.client, "tone"), (rig.other, BASE)):
            async with asyncio.timeout(5):
                answer = await client.post("/v1/completions", json={"model": model, "prompt": "x"})
            assert answer.status_code == 200
        assert not any(change.done() for change in waiting)
        other_writer.execute("ROLLBACK")
    assert {answer.status_code for answer in await asyncio.gather(*changes)} <= {200, 404, 503}


async def test_one_tenants_changes_leave_threads_to_others() -> None:
    threads, go = Threads(), threading.Event()
    waiting = [asyncio.create_task(threads.manage("greedy", go.wait, 20)) for _ in range(5 * MANAGEMENT_THREADS)]
    try:
        async with asyncio.timeout(10):
            assert await threads.manage("other", lambda: "done") == "done"
            assert await threads.authenticate(lambda: "known") == "known"
    finally:
        go.set()
        await asyncio.gather(*waiting)
    assert not threads._management.tenants


async def test_a_bucket_that_stands_still_leaves_threads_to_everything_else() -> None:
    threads, go = Threads(), threading.Event()
    stalled = [
        asyncio.create_task(threads.store(f"tenant-{number}", go.wait, 20)) for number in range(2 * STORING_THREADS)
    ]
    try:
        async with asyncio.timeout(10):
            assert await threads.manage("tenant-0", lambda: "done") == "done"
            assert await threads.receive(lambda: "written") == "written"
            assert await threads.authenticate(lambda: "known") == "known"
    finally:
        go.set()
        await asyncio.gather(*stalled)


async def test_a_tenant_has_its_share_of_threads_and_no_more() -> None:
    threads, running, most = Threads(), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.manage("greedy", work) for _ in range(20)))
    assert 1 <= most <= MANAGEMENT_THREADS_OF_A_TENANT


@pytest.mark.parametrize("ends", [None, ValueError, asyncio.CancelledError])
async def test_what_an_upload_holds_is_given_back_in_a_thread_however_it_ends(ends: type[BaseException] | None) -> None:
    loop_thread, steps = threading.current_thread(), list[str]()

    @contextmanager
    def held() -> Iterator[str]:
        assert threading.current_thread() is not loop_thread
        try:
            yield "held"
        finally:
            steps.append("on the loop" if threading.current_thread() is loop_thread else "in a thread")

    async def use() -> None:
        async with Threads().within(held()) as value:
            steps.append(value)
            if ends is asyncio.CancelledError:
                await asyncio.Event().wait()
            elif ends is not None:
                raise ends

    using = asyncio.create_task(use())
    await until(lambda: bool(steps))
    using.cancel()
    (outcome,) = await asyncio.gather(using, return_exceptions=True)
    assert steps == ["held", "in a thread"]
    assert outcome is None if ends is None else isinstance(outcome, ends)
