"""headmix over HTTP: a real `headmix serve` on loopback, its streams read by libcurl in this process.

The client shares the machine's cores with the server, so its work slows the server down; hence libcurl, which takes
about 1 ms for a step of 32 streams, half of aiohttp's time.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycurl

from harness.server.running_server import RunningServer, running_server


@dataclass(slots=True)
class Reply:
    """The answer to one request: its pieces with their arrival times."""

    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    status: int = 0

    def take(self, piece: bytes) -> None:
        """Record a piece."""
        self.times.append(time.perf_counter())
        self.pieces.append(piece)

    @property
    def completion_tokens(self) -> int:
        """The number of tokens that the server reports.

        Raises:
            RuntimeError: the request failed, or its stream broke off.
        """
        body = b"".join(self.pieces)
        events = [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
        if self.status != 200 or not events or events[-1] != b"[DONE]":
            raise RuntimeError(f"HTTP {self.status}: {body[-500:]!r}")
        return int(json.loads(events[-2])["usage"]["completion_tokens"])


@contextmanager
def serve(folder: Path, base: str, adapters: Path | None, settings: Mapping[str, str | int]) -> Iterator[RunningServer]:
    """Run the server on a base; if a folder is given, load its adapters for the default tenant."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {f"HEADMIX_{name.upper()}": str(value) for name, value in settings.items()}
    env |= {} if adapters is None else {"HEADMIX_PRELOAD": str(adapters)}
    with running_server(folder, base=Path(base), data_dir=folder / "data", runner="torch", env=env) as server:
        yield server


def requester(
    server: RunningServer, models: Sequence[str], max_tokens: int, **fields: object
) -> Callable[[list[list[int]]], float]:
    """Return a function that streams a completion per prompt, prompt i by model i modulo their number, and times it."""

    def request(prompts: list[list[int]]) -> float:
        bodies = [
            completion_body(models[index % len(models)], prompt, max_tokens, **fields)
            for index, prompt in enumerate(prompts)
        ]
        seconds, replies = stream_all(server.base_url, server.key, bodies)
        if any(reply.completion_tokens != max_tokens for reply in replies):
            raise RuntimeError("a stream did not get its tokens")
        return seconds

    return request


def completion_body(model: str, prompt: list[int], max_tokens: int, **fields: object) -> bytes:
    """Return a streamed completion that does not stop early and ends with its token counts; `fields` are added.

    It is greedy unless a field says otherwise.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body | fields).encode()


def stream_all(url: str, key: str, bodies: Sequence[bytes]) -> tuple[float, list[Reply]]:
    """Send all completions at once, each on its own connection; return the seconds until all ended, and the replies."""
    many = pycurl.CurlMulti()
    replies = [Reply() for _ in bodies]
    handles = [_handle(url, key, body, reply) for body, reply in zip(bodies, replies, strict=True)]
    began = time.perf_counter()
    for handle in handles:
        many.add_handle(handle)
    unfinished = len(handles)
    while unfinished:
        _, unfinished = many.perform()
        if unfinished:
            many.select(1.0)
    seconds = time.perf_counter() - began
    for handle, reply in zip(handles, replies, strict=True):
        reply.status = handle.getinfo(pycurl.RESPONSE_CODE)
        many.remove_handle(handle)
        handle.close()
    many.close()
    return seconds, replies


def _handle(url: str, key: str, body: bytes, reply: Reply) -> pycurl.Curl:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"{url}/v1/completions")
    handle.setopt(pycurl.POSTFIELDS, body)
    handle.setopt(pycurl.HTTPHEADER, [f"Authorization: Bearer {key}", "Content-Type: application/json"])
    handle.setopt(pycurl.WRITEFUNCTION, reply.take)
    handle.setopt(pycurl.TIMEOUT, 600)
    return handle
