"""A real Redis for tests, which they start themselves on loopback.

Without `redis-server`, tests that need it are skipped and say so; with HEADMIX_TESTS_NEED_REDIS set, as in CI, they
fail instead.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDED = "HEADMIX_TESTS_NEED_REDIS"
START_SECONDS = 30.0


class RedisServer:
    """A Redis that can be stopped and restarted on its port, without its data."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, *options, "--dir", str(self._folder)], stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"redis-server did not start: {log.read_text(errors='replace')}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a server; it ends with the block."""
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get(NEEDED):
            raise RuntimeError("no redis-server on this machine")
        pytest.skip("no redis-server on this machine: what needs it is not tested")
    server = RedisServer(program, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
