"""`client.files`, blocking and with asyncio: what is sent, and that what arrives is what the server has."""

import hashlib
from pathlib import Path

import pytest

from headmix import AsyncClient, Client, DigestMismatchError
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import FILE, listing

CONTENT = f"/v1/files/{FILE['id']}/content"
FILE_ID = str(FILE["id"])


def content(body: bytes, announced: bytes | None = None) -> Reply:
    digest = hashlib.sha256(body if announced is None else announced).hexdigest()
    return Reply(200, body, {"etag": f'"sha256:{digest}"'})


def test_an_upload_carries_purpose_name_and_lifetime(server: FakeServer, tmp_path: Path) -> None:
    server.script("POST", "/v1/files", *[Reply.of(FILE)] * 3)
    source = tmp_path / 'chats "1".jsonl'
    source.write_bytes(b"chats")
    seen: list[tuple[int, int | None]] = []
    with Client(server.url) as client:
        made = client.files.upload(
            source, "fine-tune", expires_after=3600, progress=lambda done, total: seen.append((done, total))
        )
        client.files.upload(b"chats", "batch")
        client.files.upload(b"chats", "batch", filename="a\r\nb.jsonl")
    assert (made.id, made.bytes, made.filename, made.expires_at) == (FILE_ID, 5, "chats.jsonl", None)
    assert seen == [(5, 5)]
    first, second, third = (received.body for received in server.received)
    assert b'name="purpose"\r\n\r\nfine-tune\r\n' in first
    assert b'name="expires_after[anchor]"\r\n\r\ncreated_at\r\n' in first
    assert b'name="expires_after[seconds]"\r\n\r\n3600\r\n' in first
    assert b'name="file"; filename="chats %221%22.jsonl"\r\n' in first
    assert b'filename="file"' in second
    assert b'filename="a%0D%0Ab.jsonl"' in third


def test_a_list_is_read_to_its_end(server: FakeServer) -> None:
    server.script("GET", "/v1/files?limit=1000", Reply.of({**listing(FILE), "has_more": True}))
    server.script("GET", f"/v1/files?limit=1000&after={FILE_ID}", Reply.of(listing({**FILE, "id": "file-2"})))
    with Client(server.url) as client:
        assert [file.id for file in client.files.list()] == [FILE_ID, "file-2"]


async def test_both_clients_read_and_delete(server: FakeServer, tmp_path: Path) -> None:
    server.script("GET", f"/v1/files/{FILE_ID}", *[Reply.of(FILE)] * 2)
    server.script("GET", CONTENT, *[content(b"chats")] * 4)
    server.script("DELETE", f"/v1/files/{FILE_ID}", *[Reply.of({"id": FILE_ID, "deleted": True})] * 2)
    with Client(server.url) as client:
        found = client.files.get(FILE_ID)
        assert client.files.download(FILE_ID) == b"chats"
        assert client.files.save(FILE_ID, tmp_path / "one").read_bytes() == b"chats"
        assert client.files.delete(FILE_ID).deleted
    async with AsyncClient(server.url) as aclient:
        assert await aclient.files.get(FILE_ID) == found
        assert await aclient.files.download(FILE_ID) == b"chats"
        assert (await aclient.files.save(FILE_ID, tmp_path / "two")).read_bytes() == b"chats"
        assert (await aclient.files.delete(FILE_ID)).deleted


def test_bytes_that_differ_from_their_digest_are_an_error_and_no_file(server: FakeServer, tmp_path: Path) -> None:
    server.script("GET", CONTENT, *[content(b"other", announced=b"chats")] * 2)
    with Client(server.url) as client:
        with pytest.raises(DigestMismatchError):
            client.files.download(FILE_ID)
        with pytest.raises(DigestMismatchError):
            client.files.save(FILE_ID, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
