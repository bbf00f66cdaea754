"""The asyncio client reaches the server just as the blocking one does."""

import asyncio
import hashlib
from pathlib import Path

import httpx2
import pytest

from headmix import AsyncClient, DigestMismatchError
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, BATCH, CHAT, CLASSIFICATION, EMBEDDINGS, MODERATION, RANKING, TOKENS, listing


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_operations_are_awaited(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "tone.safetensors"
    path.write_bytes(b"artifact")
    server.script("POST", "/v1/chat/completions", Reply.of(CHAT, x_request_id="r-1"))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    server.script("POST", "/v1/rerank", Reply.of(RANKING))
    server.script("POST", "/v1/moderations", Reply.of(MODERATION))
    server.script("POST", "/tokenize", Reply.of(TOKENS))
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("POST", "/v1/adapters", Reply.of(ADAPTER, 201))
    async with AsyncClient(server.url) as client:
        answer = await client.chat("Hello", model="tone")
        assert (answer.text, answer.request_id) == ("Hi.", "r-1")
        assert (await client.classify("fine", model="mood")).label == "good"
        await client.classify("fine", model="mood", split_special_tokens=True)
        assert server.last.json == {"model": "mood", "input": "fine", "split_special_tokens": True}
        assert (await client.embed("fine", model="small")).vector == (0.5, -0.25)
        assert (await client.rerank("Who?", ["a", "b"], model="judge")).order == (1, 0)
        assert (await client.moderate("fine")).flagged
        assert (await client.tokenize("Hi", model="tone")).tokens == (72, 105)
        assert (await client.adapters.list())[0].name == "tone"
        assert (await client.adapters.push("tone", path)).new_version
        assert b"artifact" in server.last.body
        server.script("GET", "/v1/batches/batch_1", Reply.of(BATCH))
        assert (await client.batches.get("batch_1")).request_counts.completed == 1


async def test_many_requests_run_at_once() -> None:
    waiting = 0
    together = asyncio.Event()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal waiting
        waiting += 1
        if waiting == 5:
            together.set()
        await together.wait()
        return httpx2.Response(200, json=CHAT)

    async with AsyncClient("http://host", transport=httpx2.MockTransport(handle)) as client:
        answers = await asyncio.gather(*(client.chat("Hello", model="tone") for _ in range(5)))
    assert [answer.text for answer in answers] == ["Hi."] * 5


async def test_saving_checks_the_digest(server: FakeServer, tmp_path: Path) -> None:
    good = f"tone@2 sha256:{hashlib.sha256(b'artifact').hexdigest()}"
    server.script("GET", "/v1/adapters/tone/file", Reply(200, b"artifact", {"x-headmix-adapter": good}))
    server.script("GET", "/v1/adapters/tone/file?version=1", Reply(200, b"corrupt", {"x-headmix-adapter": good}))
    async with AsyncClient(server.url) as client:
        saved = await client.adapters.save("tone", tmp_path / "a")
        assert saved.read_bytes() == b"artifact"
        with pytest.raises(DigestMismatchError):
            await client.adapters.save("tone", tmp_path / "b", 1)
    assert names_in(tmp_path) == ["a"]
