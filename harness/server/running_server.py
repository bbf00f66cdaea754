"""The real server for end-to-end tests: both processes, a free port, a tiny base, the runner without a model."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2
import numpy as np
import tokenizers
from safetensors.numpy import save_file

from harness.bases.base_folder import CHATML, write_base_folder

PATIENCE_SECONDS = 60.0
FAKE_BASE = "tiny-base"

T = TypeVar("T")


def write_fake_base(folder: Path, *, chat_template: str = CHATML) -> Path:
    """Write a base for the fake runner: a real tokenizer, a config, and unused weights."""
    write_base_folder(folder, chat_template=chat_template)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": backend.get_vocab_size(),
        "eos_token_id": [2, 0],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"model.embed_tokens.weight": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
    return folder


@dataclass
class RunningServer:
    """A server process. `stdout` and `stderr` are its lines so far; `key` is the admin key."""

    process: "subprocess.Popen[str]"
    data_dir: Path
    base: Path
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,), daemon=True)
            for lines, pipe in ((self.stdout, self.process.stdout), (self.stderr, self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def base_url(self) -> str:
        """The URL from the log, once the port is open."""
        url = wait_for(lambda: next((event["url"] for event in self.events("listening")), None), self)
        return str(url)

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.data_dir / "admin.key").read_text(encoding="ascii").strip()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an admin request."""
        return {"Authorization": f"Bearer {self.key}"}

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the log events with this name."""
        parsed = [json.loads(line) for line in list(self.stderr) if line.startswith("{")]
        return [event for event in parsed if event.get("event") == name]

    def readiness(self) -> "httpx2.Response":
        """Request /readyz. Preparing for TLS takes many times as long as the request, and half a core when polled."""
        return httpx2.get(f"{self.base_url}/readyz", timeout=10, verify=False)

    def wait_ready(self) -> None:
        """Wait until /readyz answers 200."""
        wait_for(lambda: self.readiness().status_code == 200, self)

    def engine_pid(self) -> int:
        """Return the newest engine process."""
        started = wait_for(lambda: self.events("engine started"), self)
        return int(str(started[-1]["pid"]))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the server and return its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the server to exit and return its exit status; its output is then complete."""
        status = self.process.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        return status


@contextmanager
def running_server(
    folder: Path,
    *,
    ready: bool = True,
    base: Path | None = None,
    data_dir: Path | None = None,
    env: Mapping[str, str] | None = None,
    slow: Path | None = None,
    python: str = sys.executable,
    **settings: str | float | Path,
) -> Iterator[RunningServer]:
    """Run `headmix serve` with the fake runner, and stop it at the end whatever happens.

    `folder` gets the base and the data folder unless these are given; `settings` become flags. While the file
    `slow` exists, each step of the engine takes a while; while it says HELD, none ends. `python` is the interpreter
    to run, of this environment or another. Unless `ready` is false, the server accepts requests once it is yielded.
    """
    base = base if base is not None else write_fake_base(folder / FAKE_BASE)
    data_dir = data_dir if data_dir is not None else folder / "data"
    _, *arguments = serve_command(**{"base": base, "data_dir": data_dir, "runner": "fake", "port": 0, **settings})
    command = [python, *arguments]
    variables = {**server_environment(), **(env or {})}
    if slow is not None:
        command[command.index("headmix_server.cli")] = "harness.server.slow_server"
        variables["SLOW_FILE"] = str(slow)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )
    server = RunningServer(process, data_dir, base)
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        server.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def serve_command(**settings: object) -> list[str]:
    """Return the command that starts the server with these settings as flags."""
    flags = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "headmix_server.cli", "serve", *flags]


def server_environment() -> dict[str, str]:
    """Return this process's environment without the server's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADMIX_")}


def wait_for(question: Callable[[], T], server: RunningServer) -> T:
    """Poll until the result is truthy and return it; fail once the server has exited or the time is up."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        ended = server.process.poll() is not None
        with suppress(httpx2.TransportError):
            if answer := question():
                return answer
        if ended:
            break
        time.sleep(0.02)
    raise AssertionError("the server did not come that far:\n" + "".join(server.stderr[-40:]))
