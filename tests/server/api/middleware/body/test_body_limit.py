"""Bodies that arrive slowly or never end, and too many bodies at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from headmix_server.api.middleware.body.body_limit import Pace

MIB = 1024 * 1024
BODY = {"model": BASE, "prompt": "x"}
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SLOW = {"body_seconds": 0.3, "min_body_rate": 1000}


@asynccontextmanager
async def sending(rig: ApiRig, path: str, length: int) -> AsyncIterator[Connection]:
    """Open a connection and send a request's headers; yield reader and writer."""
    host, _, port = rig.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    kind = "multipart/form-data; boundary=b" if path in ("/v1/adapters", "/v1/files") else "application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rig.keys[TENANT]}\r\n"
    writer.write(f"{head}Content-Length: {length}\r\nContent-Type: {kind}\r\n\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    return int((await asyncio.wait_for(reader.readline(), 20)).split()[1])


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/adapters", "/v1/files"])
async def test_a_body_that_stops_coming_is_refused(base_folder: Path, tmp_path: Path, path: str) -> None:
    async with api_rig(base_folder, tmp_path, settings=SLOW) as rig, sending(rig, path, 1000) as (reader, writer):
        writer.write(b"--b\r\n")
        assert await status(reader) == 408
        headers = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert b"x-request-id" in headers.lower()
        assert b'"request_timeout"' in await asyncio.wait_for(reader.read(200), 20)
        assert (await rig.client.post("/v1/completions", json=BODY)).status_code == 200


async def test_a_slow_body_at_the_required_pace_is_read(base_folder: Path, tmp_path: Path) -> None:
    body = b'{"model": "tiny-base", "prompt": "x"}'.ljust(1500)
    async with (
        api_rig(base_folder, tmp_path, settings={"body_seconds": 2.0, "min_body_rate": 500}) as rig,
        sending(rig, "/v1/completions", len(body)) as (reader, writer),
    ):
        for start in range(0, len(body), 150):
            writer.write(body[start : start + 150])
            await asyncio.sleep(0.25)  # 600 bytes per second, for longer than the first two seconds
        assert await status(reader) == 200


def test_received_bytes_restore_patience_up_to_its_initial_amount() -> None:
    pace = Pace(10, 100)
    assert pace.after(10, waited=4, received=100) == 7
    assert pace.after(7, waited=7, received=0) == 0
    assert pace.after(10, waited=1, received=1_000_000) == 10
    trickling = 10.0
    for _ in range(4):
        trickling = pace.after(trickling, waited=3, received=1)
    assert trickling < 0


async def test_bodies_that_never_end_are_bounded_and_another_tenants_passes(base_folder: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        rig = await opened.enter_async_context(api_rig(base_folder, tmp_path, settings={"max_bodies_mib": 2}))
        sent = [await opened.enter_async_context(sending(rig, "/v1/completions", 4 * MIB)) for _ in range(6)]
        for _, writer in sent:
            writer.write(b" " * MIB)
        answers = asyncio.as_completed([status(reader) for reader, _ in sent])
        assert [await next(answers) for _ in range(4)] == [503] * 4
        large = b'{"model": "tiny-base", "prompt": "x"}'.ljust(MIB)
        answer = await rig.other.post("/v1/completions", content=large, headers={"content-type": "application/json"})
        assert answer.status_code == 200
        for _, writer in sent:
            writer.close()
        await asyncio.gather(*answers, return_exceptions=True)
