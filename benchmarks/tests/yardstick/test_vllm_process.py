"""A rival's processes answer queries, are stopped otherwise, and all end with the benchmark."""

import json
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.yardstick.contenders import vllm_process as module
from benchmarks.yardstick.contenders.vllm_process import vllm_process

STAND_IN = """
import json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
replies = os.fdopen(int(sys.argv[sys.argv.index("--reply") + 1]), "w")
if os.environ.get("BROKEN"):
    sys.exit("no such model")
print(json.dumps({"pid": os.getpid(), "child": child.pid}), flush=True)
replies.write("{}\\n"); replies.flush()
for line in sys.stdin:
    order = json.loads(line)
    tokens = [order["max_tokens"] - (prompt == [666]) for prompt in order["prompts"]]
    replies.write(json.dumps({"seconds": 0.5, "tokens": tokens}) + "\\n"); replies.flush()
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "worker.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(module, "WORKER", script)
    return tmp_path / "log"


def test_it_answers_and_is_stopped_in_between_and_leaves_no_process(worker: Path) -> None:
    with vllm_process(Path(sys.executable), Path("m"), worker, max_model_len=8, env={}) as vllm:
        pids = json.loads(worker.read_text()).values()
        processes = [psutil.Process(pid) for pid in pids]
        for _ in range(2):
            wait_until_stopped(processes)
            assert vllm.generate([[1], [2]], 4, [None, None]) == 0.5
        with pytest.raises(RuntimeError, match="tokens"):
            vllm.generate([[1], [666]], 4, [None, None])
    psutil.wait_procs(processes, timeout=10)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def wait_until_stopped(processes: list[psutil.Process]) -> None:
    end = time.monotonic() + 10
    while any(process.status() != psutil.STATUS_STOPPED for process in processes):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_cannot_start_says_why(worker: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no such model"),
        vllm_process(Path(sys.executable), Path("m"), worker, max_model_len=8, env={"BROKEN": "1"}),
    ):
        pass
