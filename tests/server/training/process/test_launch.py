import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from headmix_server.training.process.launch import EXIT_ORPHANED, TrainerLimits

SHOW = "import os, resource, sys; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), "
SHOW += "sorted(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_DATA)[0])"


def launched(limits: TrainerLimits, code: str, parent: int) -> list[str]:
    text = msgspec.json.encode(limits).decode()
    launch = [sys.executable, "-m", "headmix_server.training.process.launch", text, str(parent)]
    return [*launch, sys.executable, "-c", code]


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes are Linux'")
def test_a_program_runs_within_its_limits() -> None:
    core = min(os.sched_getaffinity(0))
    limits = TrainerLimits(yields=True, cores=(core,), memory_mib=4096)
    shown = subprocess.run(launched(limits, SHOW, os.getpid()), capture_output=True, text=True, check=True).stdout
    assert shown.split() == [str(os.SCHED_IDLE), "19", f"[{core}]", str(4096 << 20)]


def test_without_limits_it_is_as_its_parent() -> None:
    shown = subprocess.run(launched(TrainerLimits(), SHOW, os.getpid()), capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"{os.sched_getscheduler(0)} {os.getpriority(os.PRIO_PROCESS, 0)} ")


def test_a_program_whose_parent_is_gone_already_does_not_start() -> None:
    ended = subprocess.run(launched(TrainerLimits(), "print('started')", 1), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (EXIT_ORPHANED, "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_program_ends_with_its_parent(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)"
    text = msgspec.json.encode(TrainerLimits()).decode()
    start = (
        "import os, subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-m', 'headmix_server.training.process.launch', "
        f"{text!r}, str(os.getpid()), sys.executable, '-c', {code!r}]); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path)
    file = tmp_path / "pid"
    while not (file.exists() and file.read_text()):
        time.sleep(0.05)
    child = os.pidfd_open(int(file.read_text()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    poll = select.poll()
    poll.register(child)
    assert poll.poll(60_000)
    os.close(child)
