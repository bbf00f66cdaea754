import asyncio
import contextlib
from pathlib import Path

import pytest

from headmix_server.app.housekeeping import Housekeeping
from headmix_server.core.database import open_database
from headmix_server.core.errors import ServerOverloaded
from headmix_server.tenancy.keys import Keys
from headmix_server.tenancy.usage import UsageMeter
from tests.support.crash import open_library


async def test_last_uses_are_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    database = open_database(tmp_path / "headmix.db")
    keys = Keys(database)
    first, second = (keys.create("acme", ["inference"]) for _ in range(2))

    def written() -> set[str]:
        return {info.key_id for info in Keys(database).list("acme") if info.last_used is not None}

    keys.authenticate(first.plaintext)
    task = asyncio.create_task(Housekeeping(keys, open_library(tmp_path), UsageMeter(database), seconds=0.01).run())
    while written() != {first.info.key_id}:  # noqa: ASYNC110 - the housekeeping tells nobody
        await asyncio.sleep(0.01)
    task.cancel()
    keys.authenticate(second.plaintext)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert written() == {first.info.key_id, second.info.key_id}
    database.dispose()


async def test_a_database_that_is_busy_does_not_end_the_housekeeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def busy() -> None:
        calls.append(1)
        raise ServerOverloaded("The catalog is busy; try again.")

    database = open_database(tmp_path / "headmix.db")
    keys = Keys(database)
    monkeypatch.setattr(keys, "flush_last_used", busy)
    task = asyncio.create_task(Housekeeping(keys, open_library(tmp_path), UsageMeter(database), seconds=0.001).run())
    while len(calls) < 3:  # noqa: ASYNC110 - the housekeeping tells nobody
        await asyncio.sleep(0.001)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
