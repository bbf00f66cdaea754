"""A conversion's process ends with its caller, stays within its limits, and reports why it did not convert."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headmix_adapters.config import BaseShape
from headmix_adapters.convert import isolated
from headmix_adapters.convert.confinement import ConversionLimits
from headmix_adapters.convert.isolated import ConversionRefused, ConversionRequest, convert_isolated

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LIMITS = ConversionLimits(seconds=60, cpu_seconds=60, memory_mib=4096, file_mib=1, niceness=0)
SHAPE = BaseShape(
    name="b",
    model_type="llama",
    hidden_size=32,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=9,
    fingerprint="sha256:00000000",
)
# The real process, except for the conversion: `{work}` runs instead, under its limits.
CHILD = """
import os, sys, time
from pathlib import Path
from headmix_adapters.convert import __main__ as child
def work(request):
    out = Path(request.out)
    {work}
child._convert = work
child.main()
"""
BUSY = "out.write_text(str(os.getpid())); exec('while True: pass')"

Child = Callable[[str], None]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """Make the process run something else."""

    def set_work(work: str) -> None:
        monkeypatch.setattr(isolated, "COMMAND", (sys.executable, "-c", CHILD.format(work=work)))

    return set_work


def request(folder: Path, limits: ConversionLimits = LIMITS) -> ConversionRequest:
    out = str(folder / "out")
    return ConversionRequest(weights="w", config="{}", out=out, base_folder=str(folder), base=SHAPE, limits=limits)


def read(path: str) -> str:
    return Path(path).read_text()


def pid_of(asked: ConversionRequest) -> int:
    """Return the process's id once it is running. Gives up by itself: a test's time limit does not end a thread."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(read(asked.out))
        time.sleep(0.02)
    raise TimeoutError("the conversion's process never began")


def is_running(pid: int) -> bool:
    """Return whether it exists and is not a zombie waiting for the process that adopted it."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_runs_at_low_priority_within_its_limits(tmp_path: Path, child: Child) -> None:
    child(
        "import resource as r; out.write_text(repr((os.nice(0), r.getrlimit(r.RLIMIT_CPU)[0], "
        "r.getrlimit(r.RLIMIT_DATA)[0], r.getrlimit(r.RLIMIT_FSIZE)[0], r.getrlimit(r.RLIMIT_CORE)[0], "
        "os.getpgrp() == os.getpid(), os.getsid(0))))"
    )
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    asked = request(tmp_path, msgspec.structs.replace(LIMITS, niceness=3))
    await convert_isolated(asked)
    nice = min(19, os.nice(0) + 3)
    assert read(asked.out) == repr((nice, 60, (4096 << 20) + 5, 1 << 20, 0, True, os.getsid(0)))


async def test_computing_longer_than_it_may_is_a_refusal(tmp_path: Path, child: Child) -> None:
    child(BUSY)
    limits = msgspec.structs.replace(LIMITS, cpu_seconds=1)
    with pytest.raises(ConversionRefused, match="more than 1 seconds of CPU time"):
        await convert_isolated(request(tmp_path, limits))


async def test_more_memory_than_it_may_have_is_a_refusal(tmp_path: Path, child: Child) -> None:
    limits = msgspec.structs.replace(LIMITS, memory_mib=512)
    for work in ("bytearray(600 << 20)", "import torch; torch.ones(600 << 20, dtype=torch.uint8)"):
        child(work)
        with pytest.raises(ConversionRefused, match="more than 512 MiB of memory"):
            await convert_isolated(request(tmp_path, limits))


async def test_a_larger_artifact_than_may_be_uploaded_is_a_refusal(tmp_path: Path, child: Child) -> None:
    child("out.write_bytes(bytes(2 << 20))")
    with pytest.raises(ConversionRefused, match=r"file: .* larger than 1 MiB"):
        await convert_isolated(request(tmp_path))


async def test_waiting_longer_than_it_may_is_a_refusal_and_the_process_is_gone(tmp_path: Path, child: Child) -> None:
    child("out.write_text(str(os.getpid())); time.sleep(600)")
    asked = request(tmp_path, msgspec.structs.replace(LIMITS, seconds=5))
    with pytest.raises(ConversionRefused, match="longer than 5 seconds"):
        await convert_isolated(asked)
    assert not is_running(pid_of(asked))


async def test_it_ends_when_nobody_waits_for_it_any_more(tmp_path: Path, child: Child) -> None:
    child(BUSY)
    asked = request(tmp_path)
    waiting = asyncio.create_task(convert_isolated(asked))
    pid = await asyncio.to_thread(pid_of, asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not is_running(pid)


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    asked = request(tmp_path)
    parent = (
        "import asyncio, sys, msgspec\nfrom headmix_adapters.convert import isolated\n"
        f"isolated.COMMAND = (sys.executable, '-c', {CHILD.format(work=BUSY)!r})\n"
        f"asked = msgspec.json.decode({msgspec.json.encode(asked)!r}, type=isolated.ConversionRequest)\n"
        "asyncio.run(isolated.convert_isolated(asked))"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT) as process:
        pid = pid_of(asked)
        process.send_signal(signal.SIGKILL)
        process.wait()
    while is_running(pid):
        time.sleep(0.02)
