"""A download ends when nobody needs it any more or no data arrives, leaving neither a thread nor a file behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.adapters.records import digest_of
from headmix_server.catalog.bytes.bucket import open_bucket
from headmix_server.catalog.bytes.bucket_store import BucketStore
from headmix_server.core.errors import StorageUnavailable
from tests.support.clocks.waiting import until

SIZE = 1 << 20
ANSWER = (
    f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nETag: x\r\nLast-Modified: Thu, 26 Nov 2026 06:00:00 GMT\r\n\r\n"
).encode() + bytes(SIZE // 2)
DIGEST = digest_of(b"cold")


class StalledBucket:
    """Sends part of a response and then nothing more; counts the connections."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.connected = 0
        self.asked = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            yield (
                f"s3://bucket?endpoint=http://127.0.0.1:{port}"
                "&region=us-east-1&access_key_id=test&secret_access_key=topsecret"
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self._answer)
            await reader.read()
        finally:
            self.connected -= 1
            writer.close()


def store_of(url: str, folder: Path, stall_seconds: float) -> BucketStore:
    bucket = open_bucket(url, stall_seconds=stall_seconds)
    return BucketStore(bucket, folder, owner="us", cache_bytes=1000, is_held=lambda _: False)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("answer", [b"", ANSWER], ids=["silent at once", "silent midway"])
async def test_a_bucket_that_stops_sending_is_reported_as_unavailable(tmp_path: Path, answer: bytes) -> None:
    bucket = StalledBucket(answer)
    async with bucket.running() as url:
        with pytest.raises(StorageUnavailable):
            await store_of(url, tmp_path, 0.5).download(DIGEST)
        await until(lambda: bucket.connected == 0)
    assert files(tmp_path) == []


@pytest.mark.parametrize("answer", [b"", ANSWER], ids=["silent at once", "silent midway"])
async def test_a_download_that_is_cancelled_leaves_the_bucket_and_no_file(tmp_path: Path, answer: bytes) -> None:
    bucket = StalledBucket(answer)
    async with bucket.running() as url:
        downloading = asyncio.create_task(store_of(url, tmp_path, 60).download(DIGEST))
        await until(lambda: bucket.asked == 1 and (not answer or len(files(tmp_path)) == 1))
        downloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await downloading
        assert files(tmp_path) == []
        await until(lambda: bucket.connected == 0)
