"""/v1/files over HTTP: streamed in and out, counted, kept apart by tenant, and gone when deleted or expired."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import httpx2
import pytest

from harness.server.api_rig import TENANT, ApiRig, api_rig
from harness.server.s3_server import s3_server
from headmix_server.files.sweep import Sweep
from headmix_server.tenancy.keys.principal import Scope
from tests.server.api.middleware.body.test_body_limit import sending, status
from tests.server.api.test_indistinguishable import statements
from tests.server.api.test_openapi import document
from tests.support.storage.files import later

MIB = 1 << 20
CHATS = b'{"messages": [{"role": "user", "content": "Hi"}]}\n' * 10


async def upload(
    rig: ApiRig, content: bytes = CHATS, name: str = "chats.jsonl", fields: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    response = await rig.client.post(
        "/v1/files", data={"purpose": "fine-tune", **fields}, files={"file": (name, content)}
    )
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def stored(rig: ApiRig) -> set[str]:
    return {digest for digest, _ in rig.state.files.bytes.digests()}


async def test_a_file_comes_back_as_it_was_sent(rig: ApiRig) -> None:
    content = bytes(range(256)) * 20_000
    made = await upload(rig, content, name="Chats – 1.jsonl")
    assert made == {
        "object": "file",
        "id": made["id"],
        "bytes": len(content),
        "created_at": made["created_at"],
        "expires_at": None,
        "filename": "Chats – 1.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "status_details": None,
    }
    path = f"/v1/files/{made['id']}"
    assert (await rig.client.get(path)).json() == made
    answer = await rig.client.get(f"{path}/content")
    assert answer.content == content
    assert answer.headers["etag"] == f'"sha256:{hashlib.sha256(content).hexdigest()}"'
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''Chats%20%E2%80%93%201.jsonl"
    assert (await rig.client.delete(path)).json() == {
        "object": "file",
        "id": made["id"],
        "deleted": True,
        "held_by_jobs": 0,
    }
    for gone in (await rig.client.get(path), await rig.client.get(f"{path}/content"), await rig.client.delete(path)):
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    assert stored(rig) == set()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "1"}, "expires_after[anchor]"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
            "expires_after[seconds]",
        ),
        ({"purpose": "batch", "colour": "red"}, "colour"),
    ],
)
async def test_a_field_that_is_not_understood_is_named_and_nothing_is_stored(
    rig: ApiRig, fields: dict[str, str], param: str
) -> None:
    response = await rig.client.post("/v1/files", data=fields, files={"file": ("a", b"x")})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert stored(rig) == set()
    assert (await rig.client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "CON", "a" * 255, "ünïcödé.jsonl"])
async def test_a_name_is_text_and_never_a_path(rig: ApiRig, name: str, tmp_path: Path) -> None:
    before = set(tmp_path.parent.iterdir())
    assert (await upload(rig, name=name))["filename"] == name
    assert set(tmp_path.parent.iterdir()) == before
    assert len(stored(rig)) == 1


@pytest.mark.parametrize("name", ["a" * 256, "a\x1b[31m.jsonl", "a\u202eb"])
async def test_a_name_that_cannot_be_shown_is_refused(rig: ApiRig, name: str) -> None:
    response = await rig.client.post("/v1/files", data={"purpose": "batch"}, files={"file": (name, b"x")})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "file")


async def test_another_tenants_files_do_not_exist(rig: ApiRig) -> None:
    made = await upload(rig)
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        theirs = await rig.other.request(method, f"/v1/files/{made['id']}{path}")
        nobodys = await rig.other.request(method, f"/v1/files/file-{'0' * 24}{path}")
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace(str(made["id"]), "ID") == nobodys.text.replace(f"file-{'0' * 24}", "ID")
    assert (await rig.other.get("/v1/files")).json()["data"] == []
    assert (await rig.client.get(f"/v1/files/{made['id']}")).json() == made


def _routes() -> list[tuple[str, str]]:
    paths = document()["paths"]
    named = [path for path in paths if "{file_id}" in path or "{upload_id}" in path]
    return [(method.upper(), path) for path in named for method in paths[path]]


@pytest.mark.parametrize(("method", "path"), _routes())
async def test_another_tenants_id_is_answered_like_none_by_the_same_work(rig: ApiRig, method: str, path: str) -> None:
    body = {"bytes": 5, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune"}
    names = {
        "file_id": (await upload(rig))["id"],
        "upload_id": (await rig.client.post("/v1/uploads", json=body)).json()["id"],
    }
    field = "file_id" if "{file_id}" in path else "upload_id"
    theirs = str(names[field])
    nobodys = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")

    async def ask(name: str) -> tuple[object, ...]:
        with statements(rig) as noted:
            answer = await rig.other.request(
                method,
                path.replace(f"{{{field}}}", name),
                files={"data": b"x"} if path.endswith("/parts") else None,
                json={"part_ids": ["part_x"]} if path.endswith("/complete") else None,
                headers={"x-request-id": "same"},
            )
        headers = {key: value for key, value in answer.headers.items() if key != "date"}
        return answer.status_code, answer.text.replace(name, "NAME"), headers, noted

    await ask("first")  # a tenant's limits are read with its first request
    found = await ask(theirs)
    assert found == await ask(nobodys)
    assert (found[0], bool(found[3])) == (404, True)


async def test_a_list_goes_on_where_the_last_page_ended(rig: ApiRig) -> None:
    made = [(await upload(rig, name=f"{number}"))["id"] for number in range(3)]
    seen: list[str] = []
    query = {"limit": "2", "order": "asc"}
    while True:
        page = (await rig.client.get("/v1/files", params=query)).json()
        seen += [file["id"] for file in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert sorted(seen) == sorted(str(one) for one in made)
    newest = (await rig.client.get("/v1/files", params={"purpose": "fine-tune", "limit": 10_000})).json()
    assert [file["id"] for file in newest["data"]] == seen[::-1]
    assert (await rig.client.get("/v1/files", params={"purpose": "batch"})).json()["data"] == []
    wrong = await rig.client.get("/v1/files", params={"after": "nonsense"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_a_file_that_expires_is_gone_after_its_seconds(rig: ApiRig) -> None:
    kept = await upload(rig, b"kept")
    made = await upload(rig, fields={"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert made["expires_at"] == int(str(made["created_at"])) + 3600
    with later(3601):
        assert (await rig.client.get(f"/v1/files/{made['id']}")).status_code == 404
        listed = (await rig.client.get("/v1/files")).json()["data"]
        assert [file["id"] for file in listed] == [kept["id"]]
        sweep = Sweep(rig.state.library.catalog._engine, rig.state.files)
        sweep.expire()
        assert sweep.totals() == (1, 4)
    assert len(stored(rig)) == 1


async def test_scopes_are_those_of_adapters(rig: ApiRig) -> None:
    made = await upload(rig)
    key = rig.key(Scope.INFERENCE)
    for path in ("/v1/files", f"/v1/files/{made['id']}"):
        assert (await rig.client.get(path, headers=key)).status_code == 200
    for method, path in (
        ("POST", "/v1/files"),
        ("GET", f"/v1/files/{made['id']}/content"),
        ("DELETE", f"/v1/files/{made['id']}"),
        ("POST", "/v1/uploads"),
    ):
        assert (await rig.client.request(method, path, headers=key)).status_code == 403


async def test_a_file_over_the_limit_is_refused_before_and_while_it_arrives(base_folder: Path, tmp_path: Path) -> None:
    async def in_chunks() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(3):
            yield b"x" * (MIB // 2)
        yield b"\r\n--b--\r\n"

    async with api_rig(base_folder, tmp_path, settings={"max_file_mib": 1}) as rig:
        async with sending(rig, "/v1/files", 2 * MIB) as (reader, _):  # it sends no byte of the body
            assert await status(reader) == 413
        kind = {"content-type": "multipart/form-data; boundary=b"}
        answer = await rig.client.post("/v1/files", content=in_chunks(), headers=kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        assert stored(rig) == set()


async def test_a_file_over_the_quota_is_refused_before_and_while_it_arrives(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"stored_bytes": MIB}, actor="test")
    async with sending(rig, "/v1/files", 2 * MIB) as (reader, _):  # it sends no byte of the body
        assert await status(reader) == 429
    full = await upload(rig, b"x" * (MIB - 200))
    refused = await rig.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"z" * 300)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    adapter = await rig.client.post("/v1/adapters", data={"name": "more"}, files={"file": b"z" * 300})
    assert adapter.status_code == 429
    await upload(rig, b"x" * (MIB - 200))  # the same bytes cost nothing more
    await rig.client.delete(f"/v1/files/{full['id']}")
    assert len(stored(rig)) == 1


async def test_a_client_that_disconnects_leaves_nothing(rig: ApiRig, tmp_path: Path) -> None:
    async with sending(rig, "/v1/files", MIB) as (_, writer):
        writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 1000)
        await writer.drain()
        while not rig.state.incoming.uploads_of(TENANT):  # noqa: ASYNC110 - the server signals nothing
            await asyncio.sleep(0.005)
    while rig.state.incoming.uploads_of(TENANT):  # noqa: ASYNC110 - the same
        await asyncio.sleep(0.005)
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


async def test_damaged_bytes_are_an_error_and_never_a_shorter_or_other_file(rig: ApiRig, tmp_path: Path) -> None:
    small, large = await upload(rig, b"small"), await upload(rig, b"large" * MIB)
    for path in (tmp_path / "files" / "sha256").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content[:-1] + b"?")
    answer = await rig.client.get(f"/v1/files/{small['id']}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "artifact_damaged")
    with pytest.raises(httpx2.RemoteProtocolError):
        await rig.client.get(f"/v1/files/{large['id']}/content")


async def test_parts_make_a_file_in_the_order_that_is_asked_for(rig: ApiRig) -> None:
    body = {"bytes": 10, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "batch"}
    made = (await rig.client.post("/v1/uploads", json=body)).json()
    assert (made["status"], made["file"], made["expires_at"] - made["created_at"]) == ("pending", None, 3600)
    path = f"/v1/uploads/{made['id']}"
    parts = []
    for content in (b"world", b"hello"):
        answer = await rig.client.post(f"{path}/parts", files={"data": content})
        assert answer.status_code == 200, answer.text
        assert answer.json()["object"] == "upload.part"
        parts.append(answer.json()["id"])
    too_much = await rig.client.post(f"{path}/parts", files={"data": b"x"})
    assert (too_much.status_code, too_much.json()["error"]["param"]) == (413, "data")
    order = {"part_ids": parts[::-1], "md5": hashlib.md5(b"helloworld").hexdigest()}
    wrong = await rig.client.post(f"{path}/complete", json={**order, "part_ids": parts})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "md5")
    for ids in (parts[:1], [*parts, parts[0]], ["part_x"]):
        wrong = await rig.client.post(f"{path}/complete", json={"part_ids": ids})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "part_ids")
    theirs = await rig.other.post(f"{path}/complete", json=order)
    assert theirs.status_code == 404
    done = (await rig.client.post(f"{path}/complete", json=order)).json()
    assert (done["status"], done["file"]["bytes"], done["file"]["filename"]) == ("completed", 10, "a.jsonl")
    assert (await rig.client.post(f"{path}/complete", json=order)).json() == done
    assert (await rig.client.post(f"{path}/cancel")).status_code == 400
    assert (await rig.client.get(f"/v1/files/{done['file']['id']}/content")).content == b"helloworld"
    assert len(stored(rig)) == 1


async def test_an_upload_in_parts_counts_from_its_start_until_it_is_cancelled(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"stored_bytes": 1000}, actor="test")
    body = {"bytes": 800, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune"}
    made = (await rig.client.post("/v1/uploads", json=body)).json()
    assert (await rig.client.post("/v1/uploads", json=body)).status_code == 429
    file = {"file": ("a", b"z" * 300)}
    assert (await rig.client.post("/v1/files", data={"purpose": "batch"}, files=file)).status_code == 429
    assert (await rig.client.post(f"/v1/uploads/{made['id']}/parts", files={"data": b"x" * 800})).status_code == 200
    for _ in range(2):
        cancelled = await rig.client.post(f"/v1/uploads/{made['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (await rig.client.post(f"/v1/uploads/{made['id']}/parts", files={"data": b"x"})).status_code == 400
    assert stored(rig) == set()
    assert (await rig.client.post("/v1/files", data={"purpose": "batch"}, files=file)).status_code == 200


async def test_an_upload_in_parts_that_is_left_alone_expires(rig: ApiRig) -> None:
    body = {"bytes": 5, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune"}
    made = (await rig.client.post("/v1/uploads", json=body)).json()
    part = (await rig.client.post(f"/v1/uploads/{made['id']}/parts", files={"data": b"hello"})).json()
    with later(3601):
        late = await rig.client.post(f"/v1/uploads/{made['id']}/complete", json={"part_ids": [part["id"]]})
        assert (late.status_code, late.json()["error"]["message"]) == (400, f"The upload {made['id']} is expired.")
        Sweep(rig.state.library.catalog._engine, rig.state.files).expire()
    assert stored(rig) == set()


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"bytes": 0}, "bytes", 400),
        ({"bytes": 1 << 40}, "bytes", 413),
        ({"filename": ""}, "filename", 400),
        ({"filename": "a\n"}, "filename", 400),
        ({"purpose": "vision"}, "purpose", 400),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds", 400),
        ({"colour": 1}, "colour", 400),
    ],
)
async def test_an_upload_in_parts_is_understood_in_full_or_refused(
    rig: ApiRig, change: dict[str, object], param: str, code: int
) -> None:
    body = {"bytes": 5, "filename": "a", "mime_type": "text/plain", "purpose": "fine-tune", **change}
    answer = await rig.client.post("/v1/uploads", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (code, param)


async def test_files_in_a_bucket_are_streamed_from_it_and_refused_while_it_cannot_be_reached(
    base_folder: Path, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 40_000  # several parts
    with s3_server() as server:
        async with api_rig(base_folder, tmp_path, settings={"artifacts": server.new_bucket()}) as rig:
            made = await upload(rig, content)
            path = f"/v1/files/{made['id']}"
            assert (await rig.client.get(f"{path}/content")).content == content
            assert [file for file in (tmp_path / "files").rglob("*") if file.is_file()] == []
            server.kill()
            again = await rig.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"x")})
            for answer in (await rig.client.get(f"{path}/content"), again):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
                assert answer.headers["retry-after"] == "5"
            assert (await rig.client.get(path)).json() == made
            assert (await rig.client.delete(path)).status_code == 200
            assert [file for file in (tmp_path / "files").rglob("*") if file.is_file()] == []
