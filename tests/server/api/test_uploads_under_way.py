"""An upload in progress counts against the tenant's quota, whatever it contains and however it is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from harness.server.api_rig import OTHER_TENANT, TENANT, ApiRig, api_rig
from tests.support.clocks.waiting import until

URL = "/v1/adapters"
QUOTA = 1 << 20
BLOCK = bytes(64 * 1024)
KIND = {"content-type": "multipart/form-data; boundary=b"}
FORM = b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\ntone\r\n"
CONFIG = b"--b\r\nContent-Disposition: form-data; name=config\r\n\r\n{}\r\n"
FILE = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
END = b"\r\n--b--\r\n"


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    settings = {"limit_stored_bytes": QUOTA, "max_uploads_each": 6, "max_uploads": 8}
    async with api_rig(base_folder, tmp_path, settings=settings) as running:
        yield running


async def body(blocks: int, *, head: bytes = FORM + FILE, go_on: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """Yield an upload in blocks; with `go_on`, the last byte waits for that event."""
    yield head
    for _ in range(blocks):
        yield BLOCK
    if go_on is not None:
        await go_on.wait()
        yield b"x"
    yield END


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "artifacts" / "incoming").iterdir())


async def post(client: httpx2.AsyncClient, content: AsyncIterator[bytes], **headers: str) -> httpx2.Response:
    return await client.post(URL, content=content, headers=KIND | headers, timeout=60)


@pytest.mark.parametrize("head", [FORM + FILE, FORM + CONFIG + FILE], ids=["artifact", "PEFT LoRA"])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_the_byte_that_exceeds_the_quota_is_refused_and_nothing_stays(
    rig: ApiRig, tmp_path: Path, head: bytes, declared: bool
) -> None:
    blocks = QUOTA // len(BLOCK) + 1
    # Its declared size is the largest allowed with the form, so only its actual bytes show that it is too large.
    length = {"content-length": str(len(head) + blocks * len(BLOCK) + len(END))} if declared else {}
    refused = await post(rig.client, body(blocks, head=head), **length)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (429, "rate_limit_exceeded", "file")
    assert refused.headers["x-should-retry"] == "false"
    await until(lambda: rig.state.incoming.under_way == 0)
    assert on_disk(tmp_path) == 0


async def test_uploads_at_once_never_hold_more_than_the_quota_and_leaving_gives_it_back(
    rig: ApiRig, tmp_path: Path
) -> None:
    half = QUOTA // len(BLOCK) // 2
    under_way = [asyncio.create_task(post(rig.client, body(half, go_on=asyncio.Event()))) for _ in range(2)]
    await until(lambda: rig.state.incoming.arrived(TENANT) == QUOTA)
    refused = await asyncio.gather(*(post(rig.client, body(1)) for _ in range(4)))
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(429, "1")}
    await until(lambda: rig.state.incoming.under_way == 2)
    assert on_disk(tmp_path) == QUOTA
    for task in under_way:
        task.cancel()
    await until(lambda: rig.state.incoming.under_way == 0)
    assert (on_disk(tmp_path), rig.state.incoming.arrived(TENANT)) == (0, 0)


async def test_more_uploads_at_once_than_a_tenant_may_have_are_refused_and_anothers_are_not(rig: ApiRig) -> None:
    go_on = asyncio.Event()
    uploads = [asyncio.create_task(post(rig.client, body(0, go_on=go_on))) for _ in range(6)]
    await until(lambda: rig.state.incoming.under_way == 6)
    refused = await post(rig.client, body(0))
    assert (refused.status_code, refused.json()["error"]["param"], refused.headers["retry-after"]) == (429, "file", "1")
    other = await post(rig.other, body(0))
    assert other.status_code == 422  # it was received, but is not an artifact
    go_on.set()
    assert {task.result().status_code for task in (await asyncio.wait(uploads))[0]} == {422}


async def test_at_the_limit_the_tenant_with_the_most_uploads_loses_one(rig: ApiRig) -> None:
    go_on = asyncio.Event()
    uploads = [asyncio.create_task(post(rig.client, body(0, go_on=go_on))) for _ in range(6)]
    await until(lambda: rig.state.incoming.under_way == 6)
    others = [asyncio.create_task(post(rig.other, body(0, go_on=go_on))) for _ in range(3)]
    await until(lambda: rig.state.incoming.uploads_of(OTHER_TENANT) == 3)
    go_on.set()
    await asyncio.wait([*uploads, *others])
    assert [task.result().status_code for task in others] == [422] * 3
    assert sorted(task.result().status_code for task in uploads) == [422] * 5 + [503]


async def test_a_client_that_leaves_midway_leaves_nothing(rig: ApiRig, tmp_path: Path) -> None:
    leaving = asyncio.create_task(post(rig.client, body(3, go_on=asyncio.Event())))
    await until(lambda: on_disk(tmp_path) == 3 * len(BLOCK))
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    await until(lambda: rig.state.incoming.under_way == 0)
    assert on_disk(tmp_path) == 0
