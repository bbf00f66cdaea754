"""Single versions over HTTP: retired, restored, deleted; and paginated lists."""

import pytest

from harness.adapters.records import digest_of
from harness.server.api_rig import ApiRig
from headmix_server.core.messages import ForgetAdapter

URL = "/v1/adapters/tone"


async def test_a_retired_version_cannot_be_named_until_it_is_restored(rig: ApiRig) -> None:
    for content in (b"1", b"2"):
        rig.publish("tone", content)
    retired = (await rig.client.post(f"{URL}/versions/1/retire")).json()
    assert (retired["version"], retired["state"], retired["current"]) == (1, "retired", False)
    for path in (f"{URL}@1", f"{URL}@1/file", "/v1/models/tone@1"):
        answer = await rig.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    listed = (await rig.client.get(f"{URL}/versions")).json()["data"]
    assert [(entry["version"], entry["state"]) for entry in listed] == [(2, "ready"), (1, "retired")]
    assert (await rig.client.post(f"{URL}/versions/1/restore")).json()["state"] == "ready"
    assert (await rig.client.get(f"{URL}@1")).status_code == 200


async def test_a_deleted_version_goes_with_its_bytes_and_the_engine_is_informed(rig: ApiRig) -> None:
    first = rig.publish("tone", b"1")
    rig.publish("tone", b"2")
    answer = await rig.client.delete(f"{URL}/versions/1")
    assert answer.json() == {"object": "adapter.deleted", "name": "tone", "deleted": True, "versions": [1]}
    assert not rig.state.library.path(first).exists()
    assert await rig.engine.expect(ForgetAdapter) == [ForgetAdapter(digest=digest_of(b"1"))]
    assert (await rig.client.delete(f"{URL}/versions/1")).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", "/retire"), ("DELETE", "")])
async def test_the_current_version_is_neither_retired_nor_deleted(rig: ApiRig, method: str, path: str) -> None:
    rig.publish("tone")
    answer = await rig.client.request(method, f"{URL}/versions/1{path}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "version")


@pytest.mark.parametrize(("method", "path"), [("POST", "/retire"), ("POST", "/restore"), ("DELETE", "")])
async def test_another_tenants_version_is_indistinguishable_from_a_missing_one(
    rig: ApiRig, method: str, path: str
) -> None:
    rig.publish("tone", b"1", tenant="other")
    theirs = await rig.client.request(method, f"{URL}/versions/1{path}")
    nobodys = await rig.client.request(method, f"/v1/adapters/none/versions/1{path}")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace("tone", "none") == nobodys.text


async def test_lists_come_in_pages_that_join_to_the_whole(rig: ApiRig) -> None:
    for number in range(5):
        rig.publish(f"a{number}", b"same")
        rig.publish("tone", f"{number}".encode())
    for path, key, whole in (
        ("/v1/adapters", "name", ["a0", "a1", "a2", "a3", "a4", "tone"]),
        (f"{URL}/versions", "version", [5, 4, 3, 2, 1]),
    ):
        seen, more = [], True
        after: dict[str, str | int] = {}
        while more:
            page = (await rig.client.get(path, params={"limit": 2, **after})).json()
            seen += [entry[key] for entry in page["data"]]
            more, after = page["has_more"], {"after": seen[-1]}
        assert seen == whole
    models = (await rig.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models[1:]] == ["a0", "a1", "a2", "a3", "a4", "tone"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=No%20Name", "after=%00"])
async def test_an_invalid_page_is_refused(rig: ApiRig, query: str) -> None:
    assert (await rig.client.get(f"/v1/adapters?{query}")).status_code == 400


async def test_who_changed_an_adapter_is_in_the_audit(rig: ApiRig) -> None:
    rig.publish("tone", b"1")
    await rig.client.delete(URL)
    entries = (await rig.client.get("/v1/audit", params={"tenant": "tenant"})).json()["data"]
    deleted = next(entry for entry in entries if entry["action"] == "adapter.delete")
    assert deleted["actor"].startswith("key_")
    assert {"adapter.publish", "artifact.free"} <= {entry["action"] for entry in entries}
