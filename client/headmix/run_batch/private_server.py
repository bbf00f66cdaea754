"""Starts a server for one run, on this machine and for nobody else, and stops it at the end.

The lines get exactly what a server would give them, since one does; its catalog is a temporary folder.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2

from headmix.errors import HeadmixError

_SERVER = "headmix_server"
_POLL_SECONDS = 0.1
_STOP_SECONDS = 20.0


class ServerNotStartedError(HeadmixError):
    """The server for a run does not start; its log has been printed."""


@contextmanager
def private_server(base: str, adapters: Mapping[str, Path], flags: Sequence[str] = ()) -> Iterator[str]:
    """Yield the URL of a server with this base and these adapters, by name; `flags` are further ones of `serve`.

    Raises:
        ServerNotStartedError: the server is not installed, or ends before it is ready.
        OSError: an adapter's file cannot be read.
    """
    if find_spec(_SERVER) is None:
        raise ServerNotStartedError("the server is not installed: pip install 'headmix[server]'")
    with tempfile.TemporaryDirectory(prefix="headmix-run-batch-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", f"{_SERVER}.cli", "serve", "--base", base, "--port", "0", "--keys", "off"]
        command += ["--data-dir", str(folder / "data"), "--log-level", "warning", *_preloaded(folder, adapters), *flags]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            yield _wait_ready(process, folder / "data" / "address")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _preloaded(folder: Path, adapters: Mapping[str, Path]) -> list[str]:
    if not adapters:
        return []
    preload = folder / "adapters"
    preload.mkdir()
    for name, file in adapters.items():
        shutil.copyfile(file, preload / f"{name}.safetensors")
    return ["--preload", str(preload)]


def _wait_ready(process: "subprocess.Popen[bytes]", address: Path) -> str:
    """Wait until the server accepts requests and return its URL; the first start with a base may convert it."""
    while process.poll() is None:
        try:
            url = address.read_text(encoding="ascii").strip()
            if url and httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return url
        except (OSError, httpx2.TransportError):
            pass
        time.sleep(_POLL_SECONDS)
    raise ServerNotStartedError(f"the server ended with status {process.returncode} before it was ready")
