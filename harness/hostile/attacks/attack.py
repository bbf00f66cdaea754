"""What an attack is, and the client that carries it out: connections, a key, files, and counts of the responses.

Runs in the attacker's own process, so it knows nothing about torch and makes no adapters: they are in a folder.
"""

import asyncio
import json
import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

PATIENCE_SECONDS = 120.0
PIECE_BYTES = 1 << 18


class AttackResources(msgspec.Struct, frozen=True, kw_only=True):
    """What the attacker has: a tenant's key, a revoked one, adapters of its own, files, and other tenants' names.

    `folder` contains plain.safetensors (a valid adapter), words.safetensors, overflow.safetensors, lora.safetensors
    with lora.json, and files that are not adapters, garbage-*. `adapters` are the attacker's own; `shared` are others',
    as `owner/name`; `victims` are names it must not reach.
    """

    base_url: str
    key: str
    revoked: str
    base: str
    prompt: str
    folder: str
    adapters: list[str]
    shared: list[str]
    victims: list[str]
    max_tokens: int


@dataclass(slots=True)
class AttackClient:
    """One attacking client. `outcomes` counts responses by status, `faults` say what it got but should not have."""

    attack: str
    resources: AttackResources
    rng: random.Random
    http: httpx2.AsyncClient
    until: float
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def read(self, file: str) -> bytes:
        """Return a file to attack with."""
        return (Path(self.resources.folder) / file).read_bytes()

    def garbage(self) -> bytes:
        """Return a file that is not an adapter."""
        return self.rng.choice(sorted(Path(self.resources.folder).glob("garbage-*"))).read_bytes()

    def record(self, status: int, body: str, expects: frozenset[int]) -> None:
        """Count a response; an unexpected one is a fault, unless it says there are too many requests."""
        self.outcomes[str(status)] += 1
        if status in expects or status == 429 or (status == 503 and _code(body) == "server_overloaded"):
            return
        self.fault(f"answered {status}: {body[:200]}")

    def fault(self, words: str) -> None:
        """Record what should not have happened."""
        self.faults.append(f"{self.attack}: {words}")

    async def ask(self, method: str, path: str, expects: frozenset[int], **options: Any) -> httpx2.Response:
        """Send one request and record the response."""
        answer = await self.http.request(method, path, **options)
        self.record(answer.status_code, answer.text, expects)
        return answer

    async def upload(self, name: str, content: bytes, expects: frozenset[int], **fields: str) -> httpx2.Response:
        """Upload a file under a name."""
        files = {"file": ("a.safetensors", content)}
        return await self.ask("POST", "/v1/adapters", expects, data={"name": name, **fields}, files=files)

    async def send(self, expects: frozenset[int], *pieces: bytes, wait_seconds: float = 10.0) -> None:
        """Send bytes on their own connection until there is a response; record its status or the close."""
        url = urlsplit(self.resources.base_url)
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
        except OSError:
            self.outcomes["refused"] += 1
            return
        answered = asyncio.create_task(reader.readline())
        try:
            await self._send_until(answered, writer, pieces)
            line = await asyncio.wait_for(answered, wait_seconds)
        except TimeoutError:
            self.outcomes["held"] += 1
            return
        except OSError:
            line = b""
        finally:
            answered.cancel()
            writer.transport.abort()
        words = line.split()
        if len(words) < 2:
            self.outcomes["closed"] += 1
        else:
            self.record(int(words[1]), "", expects | {503})

    async def _send_until(
        self, answered: "asyncio.Task[bytes]", writer: asyncio.StreamWriter, pieces: tuple[bytes, ...]
    ) -> None:
        for piece in pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                if answered.done():
                    return
                writer.write(piece[start : start + PIECE_BYTES])
                with suppress(ConnectionError):
                    await asyncio.wait_for(writer.drain(), PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to harm others: each of `clients` repeats `attempt`.

    `item` is the number of the weakness it exploits in the list of docs/benchmarks.md; 0 for attacks older than that
    list. `what` describes the attack in one line. An attempt that `waits` holds a resource and may outlast a phase.
    """

    name: str
    item: int
    what: str
    attempt: Callable[[AttackClient], Awaitable[None]]
    clients: int = 1
    waits: bool = False


def request_head(method: str, path: str, key: str | None = None, **headers: object) -> bytes:
    """Return a request's head: the request line and headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, *([] if key is None else [f"Authorization: Bearer {key}"]), "", ""]).encode()


def with_config(file: bytes, change: Callable[[str], str]) -> bytes:
    """Return an adapter's file with the JSON text of its config changed; the result is not checked."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"]["headmix"] = change(header["__metadata__"]["headmix"])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + file[8 + length :]


def with_field(file: bytes, name: str, json_text: str) -> bytes:
    """Return an adapter's file with one field of its config replaced by JSON text."""

    def change(config: str) -> str:
        fields = json.loads(config)
        fields[name] = None
        return json.dumps(fields).replace(f'"{name}": null', f'"{name}": {json_text}')

    return with_config(file, change)


def _code(body: str) -> object:
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
