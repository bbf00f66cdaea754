from pathlib import Path

import pytest

from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from headmix_server.catalog.version import AdapterRecord


async def test_the_base_comes_first_and_then_the_tenants_adapters(rig: ApiRig) -> None:
    tone = rig.publish("tone", labels=("a", "b"))
    rig.publish("style")
    rig.publish("secret", tenant="other")
    models = (await rig.client.get("/v1/models")).json()
    assert models["object"] == "list"
    base, style, found = models["data"]
    assert (base["id"], base["object"], base["parent"], base["root"]) == (BASE, "model", None, BASE)
    assert (base["max_model_len"], base["created"]) == (256, 1700000000)
    assert base["capabilities"] == ["generation", "embedding"]
    assert (style["id"], style["capabilities"]) == ("style", ["generation", "embedding"])
    assert found == {
        "id": "tone",
        "object": "model",
        "created": tone.created,
        "owned_by": "tenant",
        "root": "tone",
        "parent": BASE,
        "task": "classification",
        "capabilities": ["classification", "embedding"],
        "labels": ["a", "b"],
        "version": 1,
        "digest": tone.digest,
        "resident": "disk",
        "max_model_len": None,
    }


async def test_one_model_is_found_by_every_name_it_can_be_asked_by(rig: ApiRig) -> None:
    rig.publish("tone", b"1")
    rig.publish("tone", b"2")
    assert (await rig.client.get(f"/v1/models/{BASE}")).json()["parent"] is None
    for name, version in (("tone", 2), ("tone@1", 1), ("tone@2", 2)):
        model = (await rig.client.get(f"/v1/models/{name}")).json()
        assert (model["id"], model["version"]) == (name, version)


async def test_an_encoder_base_and_its_adapters_say_they_do_not_generate(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, shape={"model_type": "bert"}) as rig:
        rig.publish("odd")
        rig.publish("tone", labels=("a", "b"))
        models = (await rig.client.get("/v1/models")).json()["data"]
    assert [(model["task"], model["capabilities"]) for model in models] == [
        (None, ["embedding"]),
        ("generation", ["embedding"]),
        ("classification", ["classification", "embedding"]),
    ]


async def test_a_model_that_is_the_only_version_is_deleted_with_its_name(rig: ApiRig) -> None:
    rig.publish("tone")
    answer = await rig.client.delete("/v1/models/tone@1")
    assert answer.json() == {"id": "tone@1", "object": "model", "deleted": True}
    assert (await rig.client.get("/v1/models/tone")).status_code == 404
    assert (await rig.client.delete("/v1/models/tone@1")).status_code == 404


async def test_deleting_the_current_version_makes_the_one_before_it_current(rig: ApiRig) -> None:
    for content in (b"1", b"2"):
        rig.publish("tone", content)
    assert (await rig.client.delete("/v1/models/tone@2")).status_code == 200
    assert (await rig.client.get("/v1/models/tone")).json()["version"] == 1
    assert (await rig.client.get("/v1/models/tone@2")).status_code == 404
    actions = [entry.action for entry in rig.state.audit.entries(tenant=TENANT, before=None, limit=3)]
    assert actions == ["artifact.free", "version.deleted", "adapter.rollback"]


async def test_a_current_version_without_a_predecessor_is_not_deleted_before_others(rig: ApiRig) -> None:
    version = rig.publish("tone", b"1")
    with rig.state.library.store.receive(max_bytes=10) as upload:
        upload.write(b"2")
        record = AdapterRecord(
            digest=upload.digest, base=version.accepted_for, size_bytes=1, num_parameters=1, config=version.config
        )
        rig.state.library.publish(TENANT, "tone", upload, record, current=False)
    answer = await rig.client.delete("/v1/models/tone@1")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "version")
    assert (await rig.client.get("/v1/models/tone")).json()["version"] == 1
    assert (await rig.client.delete("/v1/models/tone@2")).status_code == 200


@pytest.mark.parametrize("model", ["tone", "tone@1", "tenant/tone", "Not A Name", "tone@1@2"])
async def test_another_tenants_model_cannot_be_deleted_or_told_from_none(rig: ApiRig, model: str) -> None:
    rig.publish("tone")
    answer = await rig.other.delete(f"/v1/models/{model}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert (await rig.client.get("/v1/models/tone")).status_code == 200


async def test_the_base_cannot_be_deleted(rig: ApiRig) -> None:
    assert (await rig.client.delete(f"/v1/models/{BASE}")).status_code == 400
