import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headmix_server import worker
from headmix_server.core.errors import EngineUnavailable
from headmix_server.core.messages import Generate
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.engine_client.client import EngineClient, EngineState
from headmix_server.supervisor import engine_process, supervisor
from headmix_server.supervisor.supervisor import EngineLostError, Supervisor

STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass
class Life:
    """A supervisor running a stand-in."""

    supervisor: Supervisor
    engine: EngineClient
    task: "asyncio.Task[None]"
    deaths: list[str] = field(default_factory=list)

    async def ready_pid(self) -> int:
        return (await asyncio.wait_for(self.engine.wait_ready(), 20)).pid

    async def state(self, wanted: EngineState) -> None:
        for _ in range(2000):
            if self.engine.state is wanted:
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"the engine never was {wanted}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.asynccontextmanager
async def living(folder: Path, behaviour: str, **settings: float) -> AsyncIterator[Life]:
    engine = EngineClient(max_open=8)
    deaths: list[str] = []
    chosen = Settings.model_validate({"data_dir": folder, **settings})
    watcher = Supervisor(
        engine,
        chosen,
        folder,
        on_death=lambda: deaths.append(engine.reason),
        command=[sys.executable, str(STAND_IN), behaviour],
    )
    life = Life(watcher, engine, asyncio.create_task(watcher.run()), deaths)
    try:
        yield life
    finally:
        watcher.stop()
        with contextlib.suppress(EngineLostError):
            await life.task


def _request(number: int) -> Generate:
    sampling = SamplingParams(max_tokens=4)
    return Generate(request_id=f"r{number}", tenant="t", prompt=[1], adapter=None, sampling=sampling)


async def _drop(engine: EngineClient, number: int) -> str:
    with pytest.raises(EngineUnavailable) as raised:
        await anext(engine.generate(_request(number)))
    return raised.value.message


async def test_a_killed_engine_fails_every_open_request_and_is_replaced(tmp_path: Path) -> None:
    async with living(tmp_path, "serves") as life:
        first = await life.ready_pid()
        requests = [asyncio.create_task(_drop(life.engine, number)) for number in range(5)]
        await asyncio.sleep(0)
        os.kill(first, 9)
        messages = await asyncio.wait_for(asyncio.gather(*requests), 10)
        assert all("SIGKILL" in message for message in messages)
        assert life.engine.state is EngineState.DOWN
        assert "SIGKILL" in life.engine.reason
        assert await life.ready_pid() != first
        assert len(life.deaths) == 1


async def test_stop_ends_the_engine_by_message_and_returns(tmp_path: Path) -> None:
    async with living(tmp_path, "serves") as life:
        pid = await life.ready_pid()
        life.supervisor.stop()
        await asyncio.wait_for(life.task, 20)
        assert not is_alive(pid)
        assert life.engine.state is EngineState.DOWN
        assert life.deaths == []


async def test_an_engine_that_ignores_the_message_is_ended_by_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SHUTDOWN_SECONDS", 0.1)
    async with living(tmp_path, "stubborn") as life:
        pid = await life.ready_pid()
        life.supervisor.stop()
        await asyncio.wait_for(life.task, 20)
        assert not is_alive(pid)


async def test_an_engine_whose_first_words_after_ready_cannot_be_read_is_replaced_at_once(tmp_path: Path) -> None:
    async with living(tmp_path, "babbles", engine_restarts=0) as life:
        with pytest.raises(EngineLostError, match="cannot be read"):
            await asyncio.wait_for(life.task, 20)


async def test_a_stop_at_the_moment_of_the_engines_death_returns(tmp_path: Path) -> None:
    async with living(tmp_path, "serves") as life:
        os.kill(await life.ready_pid(), 9)
        await asyncio.sleep(0.2)
        life.supervisor.stop()
        await asyncio.wait_for(life.task, 20)


async def test_stop_during_a_start_does_not_wait_for_it(tmp_path: Path) -> None:
    async with living(tmp_path, "never-ready") as life:
        await life.state(EngineState.STARTING)
        life.supervisor.stop()
        await asyncio.wait_for(life.task, 20)


async def test_a_silent_engine_counts_as_hung(tmp_path: Path) -> None:
    async with living(tmp_path, "silent", engine_stall_seconds=0.6) as life:
        first = await life.ready_pid()
        await life.state(EngineState.DOWN)
        assert "hung" in life.engine.reason
        assert not is_alive(first)


async def test_an_engine_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    async with living(tmp_path, "never-ready", engine_start_seconds=0.3, engine_restarts=0) as life:
        with pytest.raises(EngineLostError, match="not ready after"):
            await asyncio.wait_for(life.task, 20)


@pytest.mark.parametrize("behaviour", ["dies", "fails"])
async def test_a_crash_loop_ends_the_run_with_the_last_reason(tmp_path: Path, behaviour: str) -> None:
    async with living(tmp_path, behaviour, engine_restarts=1) as life:
        with pytest.raises(EngineLostError, match=r"ended with .*more than 1 engine deaths"):
            await asyncio.wait_for(life.task, 30)
        assert len(life.deaths) == 1


async def test_settings_that_cannot_work_are_not_tried_again(tmp_path: Path) -> None:
    async with living(tmp_path, "cannot-start") as life:
        with pytest.raises(EngineLostError, match="cannot start with these settings"):
            await asyncio.wait_for(life.task, 20)
        assert life.deaths == []


def test_the_worker_and_the_supervisor_mean_the_same_status() -> None:
    assert worker.EXIT_START_FAILED == engine_process.CANNOT_START


async def test_a_program_that_is_not_there_counts_as_a_death(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, engine_restarts=0)
    watcher = Supervisor(
        EngineClient(max_open=1), settings, tmp_path, on_death=lambda: None, command=[str(tmp_path / "missing")]
    )
    with pytest.raises(EngineLostError, match="could not be started"):
        await watcher.run()
