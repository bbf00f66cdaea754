"""Attacks that need no key: bodies, headers, connections, scrapes."""

import asyncio
import time
from functools import cache
from urllib.parse import urlsplit

from harness.hostile.attacks.attack import Attack, AttackClient, request_head

MIB = 1 << 20
CHAT = "/v1/chat/completions"
BODY_BYTES = 8 * MIB - 16
STALLED = frozenset({400, 401, 408, 413, 431})
HEADER_BYTES = 96 * MIB


@cache
def _nested() -> bytes:
    return b'{"a":[' + b",".join([b"[]"] * (BODY_BYTES // 3)) + b"]}"


async def nested_bodies(client: AttackClient) -> None:
    """Send 8 MiB of nested lists without a key."""
    body = _nested()
    head = request_head("POST", CHAT, Content_Type="application/json", Content_Length=len(body))
    await client.send(frozenset({401, 413}), head, body)


async def endless_bodies(client: AttackClient) -> None:
    """Send all of a body but its last byte, and wait."""
    head = request_head("POST", CHAT, Content_Type="application/json", Content_Length=BODY_BYTES)
    await client.send(STALLED, head, b" " * (BODY_BYTES - 1), wait_seconds=30)


async def endless_bodies_with_a_key(client: AttackClient) -> None:
    """The same, with a valid key."""
    head = request_head("POST", CHAT, client.resources.key, Content_Type="application/json", Content_Length=BODY_BYTES)
    await client.send(STALLED, head, b" " * (BODY_BYTES - 1), wait_seconds=30)


async def long_header(client: AttackClient) -> None:
    """Send one header of 96 MiB."""
    await client.send(STALLED, request_head("GET", "/v1/models")[:-2] + b"X: ", b"y" * HEADER_BYTES)


async def many_headers(client: AttackClient) -> None:
    """Send 300,000 headers."""
    await client.send(STALLED, request_head("GET", "/v1/models")[:-2], b"A: b\r\n" * 300_000, b"\r\n")


async def slow_headers(client: AttackClient) -> None:
    """Send one header line per second and never the last."""
    url = urlsplit(client.resources.base_url)
    try:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
    except OSError:
        client.outcomes["refused"] += 1
        return
    try:
        writer.write(b"GET / HTTP/1.1\r\n")
        while time.monotonic() < client.until and not reader.at_eof():
            writer.write(b"A: b\r\n")
            await writer.drain()
            await asyncio.sleep(1)
        client.outcomes["closed" if reader.at_eof() else "held"] += 1
    except OSError:
        client.outcomes["closed"] += 1
    finally:
        writer.transport.abort()


async def idle_connections(client: AttackClient) -> None:
    """Open 500 connections and send nothing."""
    url = urlsplit(client.resources.base_url)
    opened: list[asyncio.StreamWriter] = []
    try:
        for _ in range(500):
            _, writer = await asyncio.open_connection(url.hostname, url.port)
            opened.append(writer)
        client.outcomes["opened"] += len(opened)
        await asyncio.sleep(1)
    except OSError:
        client.outcomes["refused"] += 1
    finally:
        for writer in opened:
            writer.transport.abort()


async def scrapes(client: AttackClient) -> None:
    """Request the metrics without a key."""
    await client.ask("GET", "/metrics", frozenset({200, 401}), headers={"Authorization": ""})


async def use_a_revoked_key(client: AttackClient) -> None:
    """Use a revoked key."""
    path = client.rng.choice(["/v1/models", "/v1/adapters", "/v1/tenants"])
    headers = {"Authorization": f"Bearer {client.resources.revoked}"}
    await client.ask("GET", path, frozenset({401}), headers=headers)


ATTACKS = (
    Attack("nested_bodies", 1, "8 MiB of nested lists without a key", nested_bodies),
    Attack(
        "endless_bodies", 1, "40 bodies of 8 MiB that never end, without a key", endless_bodies, clients=40, waits=True
    ),
    Attack("endless_bodies_with_a_key", 1, "the same with a key", endless_bodies_with_a_key, clients=40, waits=True),
    Attack("long_header", 1, "one header of 96 MiB", long_header),
    Attack("many_headers", 1, "300,000 headers", many_headers),
    Attack("slow_headers", 1, "200 requests whose headers never end", slow_headers, clients=200, waits=True),
    Attack("idle_connections", 1, "500 connections that send nothing, again and again", idle_connections),
    Attack("scrapes", 1, "32 anonymous scrapes of the metrics at a time", scrapes, clients=32),
    Attack("use_a_revoked_key", 0, "a key that was taken away", use_a_revoked_key),
)
