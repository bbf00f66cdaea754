"""A process that is asked once stands in a group of its own, which ends with its caller, on every event loop."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from headmix_adapters.machine.asked_process import ask_process

pytestmark = pytest.mark.slow

GROUPS = "import os; print(os.getpgrp() == os.getpid(), os.getsid(0))"
FOREVER = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(600)"
loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@loops
def test_it_has_a_process_group_in_the_session_of_its_caller(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        answer = runner.run(ask_process([sys.executable, "-c", GROUPS], b"", seconds=60))
    assert answer.out.split() == [b"True", str(os.getsid(0)).encode()]


@loops
def test_it_has_ended_when_it_took_too_long(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with asyncio.Runner(loop_factory=loop) as runner, pytest.raises(TimeoutError):
        runner.run(ask_process([sys.executable, "-c", FOREVER, str(told)], b"", seconds=5))
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
