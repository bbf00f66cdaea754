"""/v1/batches: what may become a batch, who sees it, and how batches are listed."""

import json

import pytest
from openai import AsyncOpenAI

from harness.server.api_rig import OTHER_TENANT, TENANT
from harness.server.batch_rig import URL, BatchRig, Json, chat_line
from headmix_server.files.stored_file import Purpose


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"endpoint": "/v1/adapters"}, 400, "endpoint"),
        ({"endpoint": None}, 400, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"completion_window": "31d"}, 400, "completion_window"),
        ({"completion_window": "0h"}, 400, "completion_window"),
        ({"input_file_id": "file-1"}, 404, "file_id"),
        ({"metadata": {"a": "b" * 513}}, 400, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after.seconds"),
        ({"priority": 1}, 400, "priority"),
    ],
)
async def test_a_request_that_no_batch_can_have_is_refused(
    batches: BatchRig, changes: Json, status: int, param: str
) -> None:
    body = {"input_file_id": batches.upload([chat_line("a")]), "endpoint": "/v1/chat/completions"}
    response = await batches.rig.client.post(URL, json={**body, **changes})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_a_tenant_without_room_for_results_or_with_too_many_batches_creates_none(
    batches: BatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"input_file_id": batches.upload([chat_line("a")]), "endpoint": "/v1/chat/completions"}
    batches.rig.state.limits.change(TENANT, {"stored_bytes": 10}, actor="test")
    refused = await batches.rig.client.post(URL, json=body)
    assert (refused.status_code, "no room for results" in refused.json()["error"]["message"]) == (429, True)
    batches.rig.state.limits.change(TENANT, {"stored_bytes": None}, actor="test")
    monkeypatch.setattr("headmix_server.batches.batches.MOST_OPEN", 2)
    assert [(await batches.rig.client.post(URL, json=body)).status_code for _ in range(3)] == [200, 200, 429]


async def test_a_file_for_training_is_no_input(batches: BatchRig) -> None:
    file = batches.rig.state.files.put(TENANT, Purpose.FINE_TUNE, "a.jsonl", [b"{}"])
    body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions"}
    response = await batches.rig.client.post(URL, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input_file_id")


async def test_another_tenants_files_and_batches_do_not_exist(batches: BatchRig) -> None:
    rig = batches.rig
    made = await batches.create([chat_line("a")])
    for response in (
        await rig.other.get(f"{URL}/{made['id']}"),
        await rig.other.post(f"{URL}/{made['id']}/cancel"),
        await rig.other.post(URL, json={"input_file_id": made["input_file_id"], "endpoint": "/v1/completions"}),
        await rig.client.get(f"{URL}/batch_nothing"),
        await rig.client.get(f"{URL}/{made['id'].removeprefix('batch_')}"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert (await rig.other.get(URL)).json()["data"] == []
    theirs = batches.upload([chat_line("b")], tenant=OTHER_TENANT)
    response = await rig.client.post(URL, json={"input_file_id": theirs, "endpoint": "/v1/completions"})
    assert response.status_code == 404


async def test_batches_are_listed_newest_first_in_pages(batches: BatchRig) -> None:
    made = [(await batches.create([chat_line("a")]))["id"] for _ in range(3)]
    everything = (await batches.rig.client.get(URL)).json()
    assert {one["id"] for one in everything["data"]} == set(made)
    pages, after = [], ""
    while True:
        page = (await batches.rig.client.get(f"{URL}?limit=2{after}")).json()
        pages += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert pages == [one["id"] for one in everything["data"]]
    refused = await batches.rig.client.get(URL, params={"after": "batch_no"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


async def test_openais_sdk_creates_lists_and_cancels_batches(batches: BatchRig) -> None:
    rig = batches.rig
    text = "".join(json.dumps(chat_line(name)) + "\n" for name in "ab").encode()
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as sdk:
        file = (await sdk.files.create(file=("in.jsonl", text), purpose="batch")).id
        made = await sdk.batches.create(
            input_file_id=file,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"run": "7"},
            output_expires_after={"anchor": "created_at", "seconds": 3600},
        )
        async with batches.running():
            await batches.ended(made.id)
        done = await sdk.batches.retrieve(made.id)
        assert (done.status, done.metadata) == ("completed", {"run": "7"})
        assert done.request_counts is not None
        assert (done.request_counts.total, done.request_counts.completed) == (2, 2)
        assert done.output_file_id is not None
        output = (await sdk.files.content(done.output_file_id)).text
        assert {json.loads(line)["custom_id"] for line in output.splitlines()} == {"a", "b"}
        assert done.usage is not None
        assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0
        other = await sdk.batches.create(input_file_id=file, endpoint="/v1/completions", completion_window="24h")
        assert (await sdk.batches.cancel(other.id)).status == "cancelled"
        assert [batch.id async for batch in sdk.batches.list(limit=1)] in ([other.id, made.id], [made.id, other.id])
