"""An S3 server over HTTP for tests: PyPI's `moto` in its own process, which can be killed and restarted."""

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2

PATIENCE_SECONDS = 60.0


class S3Server:
    """The address, and buckets on it. After `kill` every request is refused until `start`, which starts out empty."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            with suppress(httpx2.TransportError):
                httpx2.get(f"{self.url}/moto-api/").raise_for_status()
                return
            time.sleep(0.02)
        raise TimeoutError("moto did not start")

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def new_bucket(self) -> str:
        """Create a bucket and return the URL of a prefix in it, with credentials."""
        name = f"bucket-{next(self._numbers)}"
        httpx2.put(f"{self.url}/{name}").raise_for_status()
        return self.address(name)

    def address(self, name: str) -> str:
        """Return the URL of a prefix in a bucket that need not exist."""
        return f"s3://{name}/some/prefix?endpoint={self.url}&region=us-east-1&access_key_id=test&secret_access_key=topsecret"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server for the duration of the block."""
    server = S3Server()
    try:
        server.start()
        yield server
    finally:
        server.kill()
