"""A vLLM engine in its own environment and processes, stopped (SIGSTOP) except while it is asked something."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).with_name("vllm_worker.py")
PATIENCE_SECONDS = 30


class VllmProcess:
    """Asks one worker. Between questions all its processes stand still, so that they take nothing from others."""

    def __init__(self, process: "subprocess.Popen[str]", replies: IO[str], log: Path) -> None:
        self._process = process
        self._replies = replies
        self._log = log

    def wait_ready(self) -> None:
        """Wait until the model is loaded and compiled, a minute or two, and stop it.

        Raises:
            RuntimeError: it ended; the text closes with its last words.
        """
        self._read()
        self._signal(signal.SIGSTOP)

    def generate(self, prompts: Sequence[list[int]], max_tokens: int, loras: Sequence[str | None]) -> float:
        """Return the seconds vLLM takes, measured on its side.

        Raises:
            RuntimeError: it ended, or a request did not get its tokens.
        """
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        self._signal(signal.SIGCONT)
        try:
            order = {"prompts": list(prompts), "max_tokens": max_tokens, "loras": list(loras)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            reply = self._read()
        finally:
            self._signal(signal.SIGSTOP)
        if reply["tokens"] != [max_tokens] * len(prompts):
            raise RuntimeError(f"vLLM gave {reply['tokens']} tokens")
        return float(reply["seconds"])

    def close(self) -> None:
        """End the worker and everything it started."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _read(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            raise RuntimeError("vLLM's worker ended:\n" + self._log.read_text(errors="replace")[-2000:])
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)  # its own session: the group is the worker and what it started


@contextmanager
def vllm_process(
    python: Path, model: Path, log: Path, *, max_model_len: int, max_loras: int = 0, env: Mapping[str, str]
) -> Iterator[VllmProcess]:
    """Start a worker and end it at the end; `env` is added to the environment. Raises as `wait_ready`."""
    reading, writing = os.pipe()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("w") as output, os.fdopen(reading, encoding="utf-8") as replies:
        process = subprocess.Popen(
            [
                str(python),
                str(WORKER),
                "--model",
                str(model),
                "--reply",
                str(writing),
                "--max-model-len",
                str(max_model_len),
            ]
            + (["--max-loras", str(max_loras)] if max_loras else []),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=[writing],
            start_new_session=True,
            env={**clean, **env},
        )
        os.close(writing)
        worker = VllmProcess(process, replies, log)
        try:
            worker.wait_ready()
            yield worker
        finally:
            worker.close()
