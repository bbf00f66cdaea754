"""An engine's place among the operating system's groups, with the event loops that a server may run on."""

import asyncio
import os
import sys
from collections.abc import Callable

import pytest
import uvloop

from headmix_server.supervisor.engine_process import EngineProcess

WAIT = (sys.executable, "-c", "import sys; sys.stdin.read()")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_engine_is_out_of_a_terminals_reach_and_in_the_session_within_which_niceness_counts(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def groups() -> tuple[bool, bool]:
        engine = await EngineProcess.start(WAIT, "{}")
        try:
            return os.getpgid(engine.pid) == engine.pid, os.getsid(engine.pid) == os.getsid(0)
        finally:
            await engine.kill()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(groups()) == (True, True)
