"""A contender's processes end with the benchmark, even if it is killed while they are stopped."""

import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]

BENCHMARK = """
import os, signal, sys
from benchmarks.yardstick.contenders.stopped_process import stopped_process

with open(os.devnull, "w") as nowhere:
    command = ["sh", "-c", "sleep 600 & echo $$ $! > " + sys.argv[1] + "; wait"]
    with stopped_process(command, nowhere, env={}) as process:
        while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read().endswith("\\n"):
            pass
        process.stop()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_benchmark_leaves_no_process(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    subprocess.run([sys.executable, "-c", BENCHMARK, str(note)], check=False, timeout=60)
    pids = [int(pid) for pid in note.read_text().split()]
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    psutil.wait_procs(processes, timeout=10)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
