"""llama.cpp's server, built by `make bench-llama`, on loopback; stopped except during queries."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.yardstick.contenders.over_http import completion_body, stream_all
from benchmarks.yardstick.contenders.stopped_process import StoppedProcess, stopped_process

FOLDER = Path(__file__).parents[3] / ".llama-cpp"
SERVER = FOLDER / "build/bin/llama-server"
NOT_BUILT = "llama.cpp is not built: run make bench-llama"
PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """One server, stopped between queries."""

    process: StoppedProcess
    url: str
    log: Path

    def generate(
        self, prompts: Sequence[list[int]], max_tokens: int, loras: Sequence[int | None] | None = None, **fields: object
    ) -> float:
        """Return the seconds until the last stream has ended; `loras` has the number of each request's adapter.

        Raises:
            RuntimeError: a request failed or did not get its tokens.
        """
        numbers = [None] * len(prompts) if loras is None else loras
        bodies = [
            completion_body("any", prompt, max_tokens, **fields, **_lora(number))
            for prompt, number in zip(prompts, numbers, strict=True)
        ]
        with self.process.awake():
            seconds, replies = stream_all(self.url, "none", bodies)
        counts = [reply.completion_tokens for reply in replies]
        if counts != [max_tokens] * len(prompts):
            raise RuntimeError(f"llama.cpp returned {counts} tokens")
        return seconds

    def milliseconds_per_token(self, prompt: list[int], max_tokens: int) -> float:
        """Return the time from one token to the next by the server's own clock, without HTTP.

        Raises:
            RuntimeError: the request failed or did not get its tokens.
        """
        order = {"prompt": prompt, "n_predict": max_tokens, "temperature": 0, "ignore_eos": True}
        with self.process.awake():
            answer = httpx2.post(f"{self.url}/completion", json=order, timeout=600)
        timings: dict[str, Any] = answer.json().get("timings", {})
        if timings.get("predicted_n") != max_tokens:
            raise RuntimeError(f"HTTP {answer.status_code}: {answer.text[:500]}")
        return float(timings["predicted_per_token_ms"])  # excludes the prompt and the first token

    def wait_ready(self, loras: int) -> None:
        """Wait until the model and its adapters are loaded, then stop the server.

        Raises:
            RuntimeError: it ended, it took too long, or it has another number of adapters; the message ends with its
                last output.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.process.ended and time.monotonic() < end:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{self.url}/health", timeout=10).status_code == 200:
                    loaded = len(httpx2.get(f"{self.url}/lora-adapters", timeout=10).json())
                    self.process.stop()
                    if loaded == loras:
                        return
                    break
            time.sleep(0.1)
        raise RuntimeError("llama-server did not start:\n" + self.log.read_text(errors="replace")[-2000:])


@contextmanager
def llama_server(
    model: Path, log: Path, *, slots: int, slot_tokens: int, loras: Sequence[Path] = (), binary: Path = SERVER
) -> Iterator[LlamaServer]:
    """Start a server on every core, with one slot for each request that may be open at once; end it on exit.

    Raises:
        RuntimeError: as `wait_ready`, or llama.cpp is not built.
    """
    if not binary.exists():
        raise RuntimeError(NOT_BUILT)
    port, cores = _free_port(), len(os.sched_getaffinity(0))
    flags: dict[str, object] = {
        "model": model,
        "host": "127.0.0.1",
        "port": port,
        "parallel": slots,
        "ctx-size": slots * slot_tokens,
        "threads": cores,
        "threads-batch": cores,
    }
    command = [str(binary), *(text for name, value in flags.items() for text in (f"--{name}", str(value)))]
    command += ["--lora", ",".join(map(str, loras)), "--lora-init-without-apply"] if loras else []
    with log.open("w") as output, stopped_process([*command, "--no-ui"], output, env={}) as process:
        server = LlamaServer(process, f"http://127.0.0.1:{port}", log)
        server.wait_ready(len(loras))
        yield server


def _lora(number: int | None) -> Mapping[str, object]:
    return {} if number is None else {"lora": [{"id": number, "scale": 1.0}]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def llama_version() -> str | None:
    """Return the release of llama-cpp-python that the build's source comes from; None if there is no build."""
    made = FOLDER / ".built"
    return made.read_text().strip() if made.exists() else None
