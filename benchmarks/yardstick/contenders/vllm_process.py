"""A vLLM engine in its own environment, queried through pipes and stopped in between."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.yardstick.contenders.stopped_process import StoppedProcess, stopped_process

WORKER = Path(__file__).with_name("vllm_worker.py")
VENV = Path(__file__).parents[3] / ".venv-vllm"
CACHE_GIB = 1


class VllmProcess:
    """Queries one worker, which is stopped between queries."""

    def __init__(self, worker: StoppedProcess, replies: IO[str], log: Path) -> None:
        self._worker = worker
        self._replies = replies
        self._log = log

    def wait_ready(self) -> None:
        """Wait until the model is loaded and compiled, which takes a minute or two, then stop it.

        Raises:
            RuntimeError: it ended; the message ends with its last output.
        """
        self._read()
        self._worker.stop()

    def generate(
        self,
        prompts: Sequence[list[int]],
        max_tokens: int,
        loras: Sequence[str | None] | None = None,
        sampling: Mapping[str, float] | None = None,
    ) -> float:
        """Return the seconds vLLM takes, measured on its side; greedy unless `sampling` says otherwise.

        Raises:
            RuntimeError: it ended, or a request did not get its tokens.
        """
        stdin = self._worker.process.stdin
        if stdin is None:
            raise RuntimeError("the worker has no standard input")
        order = {
            "prompts": list(prompts),
            "max_tokens": max_tokens,
            "loras": [None] * len(prompts) if loras is None else list(loras),
            "sampling": {} if sampling is None else dict(sampling),
        }
        with self._worker.awake():
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            reply = self._read()
        if reply["tokens"] != [max_tokens] * len(prompts):
            raise RuntimeError(f"vLLM returned {reply['tokens']} tokens")
        return float(reply["seconds"])

    def _read(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            raise RuntimeError("vLLM's worker ended:\n" + self._log.read_text(errors="replace")[-2000:])
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextmanager
def vllm_process(
    python: Path,
    model: Path,
    log: Path,
    *,
    max_model_len: int,
    dtype: str = "float32",
    max_loras: int = 0,
    max_lora_rank: int = 16,
    env: Mapping[str, str],
) -> Iterator[VllmProcess]:
    """Start a worker and end it on exit; `env` is added to the environment.

    Raises:
        RuntimeError: as `wait_ready`, or vLLM's environment is not installed.
    """
    if not python.exists():
        raise RuntimeError(NOT_INSTALLED)
    reading, writing = os.pipe()
    command = [str(python), str(WORKER), "--model", str(model), "--dtype", dtype, "--reply", str(writing)]
    command += ["--max-model-len", str(max_model_len)]
    command += ["--max-loras", str(max_loras), "--max-lora-rank", str(max_lora_rank)] if max_loras else []
    with (
        log.open("w") as output,
        os.fdopen(reading, encoding="utf-8") as replies,
        stopped_process(command, output, env=env, pass_fds=[writing]) as process,
    ):
        os.close(writing)
        worker = VllmProcess(process, replies, log)
        worker.wait_ready()
        yield worker


NOT_INSTALLED = "vLLM is not installed: run make bench-vllm"


def vllm_environment(*, every_core: bool) -> dict[str, str]:
    """Return the settings vLLM's documentation recommends on CPU; by default its front end keeps one of two cores."""
    cores = sorted(os.sched_getaffinity(0))
    env = {
        "VLLM_CPU_KVCACHE_SPACE": str(CACHE_GIB),
        **({"VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}-{cores[-1]}"} if every_core else {}),
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "86400",  # it keeps a step in flight, and may be stopped for minutes
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    openmp = VENV / "lib/libiomp5.so"
    return env | ({"LD_PRELOAD": str(openmp)} if openmp.exists() else {})


def vllm_version() -> str | None:
    """Return the version installed in vLLM's environment; None if there is none."""
    found = next(VENV.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"), None)
    return None if found is None else found.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
