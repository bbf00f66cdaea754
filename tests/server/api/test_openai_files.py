"""OpenAI's own client library with this server's files: existing programs must work unchanged."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from harness.server.api_rig import TENANT, ApiRig


@pytest.fixture
async def sdk(rig: ApiRig) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as client:
        yield client


async def test_a_files_life(sdk: AsyncOpenAI, tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_bytes(b'{"messages": []}\n' * 100_000)
    made = await sdk.files.create(
        file=source, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.filename, made.bytes, made.purpose) == ("chats.jsonl", source.stat().st_size, "fine-tune")
    assert made.expires_at == made.created_at + 3600
    assert await sdk.files.wait_for_processing(made.id) == made
    assert await sdk.files.retrieve(made.id) == made
    assert (await sdk.files.content(made.id)).content == source.read_bytes()
    deleted = await sdk.files.delete(made.id)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        await sdk.files.retrieve(made.id)


async def test_a_list_is_read_page_by_page(sdk: AsyncOpenAI) -> None:
    made = {(await sdk.files.create(file=(f"{number}", b"x"), purpose="batch")).id for number in range(5)}
    seen = [file.id async for file in sdk.files.list(limit=2)]
    assert (set(seen), len(seen)) == (made, 5)
    assert {file.id async for file in sdk.files.list(limit=2, order="asc", purpose="batch")} == made


async def test_a_file_in_parts(sdk: AsyncOpenAI, tmp_path: Path) -> None:
    source = tmp_path / "lines.jsonl"
    source.write_bytes(bytes(range(256)) * 10_000)
    done = await sdk.uploads.upload_file_chunked(
        file=source, mime_type="text/jsonl", purpose="batch", part_size=1_000_000
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.status) == ("lines.jsonl", "processed")
    assert (await sdk.files.content(done.file.id)).content == source.read_bytes()
    pending = await sdk.uploads.create(bytes=9, filename="a", mime_type="text/plain", purpose="fine-tune")
    assert (await sdk.uploads.cancel(pending.id)).status == "cancelled"
