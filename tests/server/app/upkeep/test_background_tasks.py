import asyncio
import contextlib
from dataclasses import asdict
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headmix_server.app.upkeep.background_tasks import BackgroundTasks, flush_for_good
from headmix_server.core.errors import ServerOverloaded, StorageUnavailable
from headmix_server.database import open_database
from headmix_server.database.audit_log import AuditLog
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.usage.meter import UsageMeter, Used
from tests.support.storage.crash import open_library


def idle() -> None:
    """Nothing to do about files."""


async def test_last_uses_are_written_periodically_and_at_the_end(tmp_path: Path) -> None:
    database = open_database(tmp_path / "headmix.db")
    keys = Keys(database)
    first, second = (keys.create("acme", ["inference"]) for _ in range(2))

    def written() -> set[str]:
        return {info.key_id for info in Keys(database).list("acme") if info.last_used is not None}

    keys.authenticate(first.plaintext)
    task = asyncio.create_task(
        BackgroundTasks(
            keys, open_library(tmp_path), UsageMeter(database), AuditLog(database), idle, seconds=0.01
        ).run()
    )
    while written() != {first.info.key_id}:  # noqa: ASYNC110 - the housekeeping signals nothing
        await asyncio.sleep(0.01)
    task.cancel()
    keys.authenticate(second.plaintext)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert written() == {first.info.key_id, second.info.key_id}
    database.dispose()


@pytest.mark.parametrize("fault", [ServerOverloaded("The catalog is busy; try again."), RuntimeError("nobody's")])
async def test_no_failure_ends_the_background_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    calls = []

    def fails() -> None:
        calls.append(1)
        raise fault

    database = open_database(tmp_path / "headmix.db")
    keys, usage = Keys(database), UsageMeter(database)
    library = open_library(tmp_path)
    monkeypatch.setattr(keys, "flush_last_used", fails)
    monkeypatch.setattr(library, "free_doomed", fails)
    with capture_logs():
        task = asyncio.create_task(BackgroundTasks(keys, library, usage, AuditLog(database), idle, seconds=0.001).run())
        while len(calls) < 6:  # noqa: ASYNC110 - the housekeeping signals nothing
            await asyncio.sleep(0.001)
        usage.add("acme", "poet", Used(requests=1))
        while usage.unwritten():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    database.dispose()


def test_usage_that_cannot_be_written_at_a_stop_is_in_the_log_to_the_last_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise StorageUnavailable("The database cannot be reached.")

    database = open_database(tmp_path / "headmix.db")
    usage = UsageMeter(database, clock=lambda: 0.0)
    used = Used(requests=2, prompt_tokens=30, cached_tokens=4, generation_tokens=50)
    usage.add("acme", "poet", used)
    monkeypatch.setattr(usage, "flush", fails)
    with capture_logs() as logs:
        flush_for_good(usage)
    (lost,) = [entry for entry in logs if entry["event"] == "usage lost"]
    assert (lost["tenant"], lost["day"], lost["adapter"]) == ("acme", "1970-01-01", "poet")
    assert {name: lost[name] for name in asdict(used)} == asdict(used)
    database.dispose()
